"""Names of the networks that a student can be built on."""

from __future__ import annotations

from typing import Literal

Backbone = Literal["resnet101", "resnet50", "mobilenet_v3_large"]
