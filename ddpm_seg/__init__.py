"""Label image datasets with diffusion models. These functions are for notebooks and scripts:

segmenter = ddpm_seg.load("avatars-10")
result = segmenter("portrait.png")
table = ddpm_seg.read_labels("out")
samples = ddpm_seg.read_samples("samples")
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from ddpm_seg.version import __version__

if TYPE_CHECKING:
    from ddpm_seg.evaluation.tables.curation import read_samples
    from ddpm_seg.notebook import load
    from ddpm_seg.runs.view import read_labels

# OpenMP threads wait for each other by spinning. By default they spin so long that beside a busy process they use up
# the time in which the other could have run; without spinning, small networks are a third slower on a quiet machine:
# see "Speed" in tests/README.md. OpenMP reads this when torch is imported, so it stands here.
if not os.environ.keys() & {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"}:
    os.environ["GOMP_SPINCOUNT"] = "2000"

__all__ = ["__version__", "load", "read_labels", "read_samples"]

_HOMES = {
    "load": "ddpm_seg.notebook",
    "read_labels": "ddpm_seg.runs.view",
    "read_samples": "ddpm_seg.evaluation.tables.curation",
}


def __getattr__(name: str) -> Any:
    # Import on first use: reading a table needs no torch, and every Ray worker imports this package.
    if name not in _HOMES:
        raise AttributeError(f"module 'ddpm_seg' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
