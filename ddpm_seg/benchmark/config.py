"""What a benchmark is told."""

from __future__ import annotations

from dataclasses import dataclass

from ddpm_seg import storage
from ddpm_seg.checks import check_least
from ddpm_seg.model.device.dtypes import SegmentDType


@dataclass(frozen=True, kw_only=True, slots=True)
class BenchmarkConfig:
    """Settings of `jobs.benchmark`."""

    model: str = "avatars-10"
    """The bundle: a name or a URI."""
    published_size: bool = False
    """In its place, the network of the published checkpoints (552.8 million parameters, 256 x 256, ten members) with
    random weights."""
    dtypes: tuple[SegmentDType, ...] | None = None
    """Types of activations to try. Default: float32 and bfloat16; on a GPU float16 too."""
    rounds: int = 3
    """Times that everything is measured, in turn; medians are shown."""
    reference: bool = False
    """Beside it, a plain transcription of the published algorithm, on the CPU in float32."""
    label: int = 0
    """Images to label from files to tables too, on Ray."""
    output: str | None = None
    """Folder for benchmark.json."""

    def __post_init__(self) -> None:
        storage.normalize_places(self, "output")
        check_least(self, rounds=1, label=0)
