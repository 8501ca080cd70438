"""The settings of jobs.benchmark."""

from __future__ import annotations

from dataclasses import dataclass

from ddpm_seg import storage
from ddpm_seg.checks import check_least
from ddpm_seg.model.device.dtypes import DType


@dataclass(frozen=True, kw_only=True, slots=True)
class BenchmarkConfig:
    """Settings of `jobs.benchmark`."""

    model: str = "avatars-10"
    """Model bundle to measure: the name of one that comes with the package, a folder, or a URI prefix."""
    published_size: bool = False
    """Instead of --model, measure a network as large as the published checkpoints (552.8 million parameters, 256 x 256
    pixels, ten classifiers) with random weights."""
    dtypes: tuple[DType, ...] | None = None
    """Number formats of the network's activations to measure. Default: float32 and bfloat16; on a GPU also float16."""
    rounds: int = 3
    """How often to repeat each measurement. Reported times are medians."""
    reference: bool = False
    """Also measure a plain implementation of the published algorithm, on the same device in float32."""
    compile: bool = False
    """Run the network through torch.compile, as ddpm-seg label --compile does."""
    profile: bool = False
    """Also list the operations that take most time."""
    label: int = 0
    """Also measure ddpm-seg label on Ray, from image files to Parquet tables, with this many images. 0 leaves it
    out."""
    output: str | None = None
    """Folder or URI prefix to write benchmark.json to. Default: the results are only printed."""

    def __post_init__(self) -> None:
        storage.normalize_places(self, "output")
        check_least(self, rounds=1, label=0)
