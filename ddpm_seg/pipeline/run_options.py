"""The settings that jobs.label and jobs.generate share. Imports neither torch nor Ray, so that --help is fast."""

from __future__ import annotations

from dataclasses import dataclass

from ddpm_seg import storage
from ddpm_seg.checks import check_least
from ddpm_seg.model.bundle.files import check_model_id
from ddpm_seg.model.device.dtypes import DType


@dataclass(frozen=True, kw_only=True, slots=True)
class RunOptions:
    """Settings of a run. Each job adds its own, and documents the fields that have no docstring here."""

    model: str
    output: str
    expect_model_id: str | None = None
    """Stop before doing anything unless the bundle has this model_id. Use it in scheduled jobs whose model must not
    change unnoticed; --dry-run prints the model_id."""
    dtype: DType
    dry_run: bool = False
    """Check the inputs, print what would be done and about how long it would take, and stop."""
    price_per_hour: float | None = None
    """What the cluster costs per hour, in any currency: --dry-run then also estimates the cost of the run."""
    num_actors: int | None = None
    """Copies of the model that work in parallel. Default: as many as fit on the cluster's GPUs; without GPUs, one per
    machine."""
    gpus_per_actor: float = 1.0
    """Share of a GPU for each copy of the model: 0.5 puts two copies on a GPU. Ignored without GPUs."""
    wait_for_gpus: float = 0.0
    """Minutes to wait until the cluster has GPUs for --num-actors copies. An autoscaler is asked to add them."""
    batch_size: int | None = None
    compile: bool = False
    """Run the network through torch.compile. Each copy of the model then starts up to minutes later but runs faster;
    this pays off in long runs, mostly on GPUs."""
    shard_size: int = 1000
    """Images per Parquet file."""
    chunk_size: int

    def __post_init__(self) -> None:
        storage.normalize_places(self, "output")
        check_least(self, shard_size=1, chunk_size=1, num_actors=1, batch_size=1)
        check_model_id(self.expect_model_id)
        if not 0 < self.gpus_per_actor <= 1:
            raise ValueError(f"--gpus-per-actor must be above 0 and at most 1, got {self.gpus_per_actor:g}")
        if self.price_per_hour is not None and self.price_per_hour < 0:
            raise ValueError(f"--price-per-hour must be at least 0, got {self.price_per_hour:g}")
        if not self.wait_for_gpus >= 0 or (self.wait_for_gpus and self.num_actors is None):
            raise ValueError(
                f"--wait-for-gpus {self.wait_for_gpus:g}: expected minutes, at least 0, together with --num-actors"
            )
