"""Values of the flags that say how masks get their image's own size. Imports nothing heavy, so that --help is fast."""

from __future__ import annotations

from typing import Literal

Resize = Literal["bilinear", "nearest"]
"""How the network's labels become a mask of the image's own size: its probabilities interpolated, or its class ids."""

Refine = Literal["none", "bilateral", "guided"]
"""How the edges of a mask of the image's own size are moved to those of the image."""
