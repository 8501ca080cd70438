"""Values of the flags that say how images fit the network's canvas. Imports nothing heavy, so that --help is fast."""

from __future__ import annotations

from typing import Literal

FitMode = Literal["letterbox", "stretch"]
"""How an image fits a canvas of another aspect ratio."""

Resize = Literal["bilinear", "nearest"]
"""How the network's labels become a mask of the image's own size: its probabilities interpolated, or its class ids."""

Refine = Literal["none", "bilateral", "guided"]
"""How the edges of a mask of the image's own size are moved to those of the image."""
