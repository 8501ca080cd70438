"""Names of the backbones that a student can have."""

from __future__ import annotations

from typing import Literal

Backbone = Literal["resnet101", "resnet50", "mobilenet_v3_large"]
