"""The options that jobs of runs share, label and generate. Without torch and Ray, so that --help is quick."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TypeVar

from ddpm_seg import storage
from ddpm_seg.checks import check_least
from ddpm_seg.model.bundle.files import check_model_id
from ddpm_seg.model.device.dtypes import SegmentDType

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class RunOptions:
    """What a run is told. Each job adds its own options, and says more of those that have no default here."""

    model: str
    output: str
    expect_model_id: str | None = None
    """The model_id that the bundle must have, or nothing is done: for nights whose model must not change unnoticed.
    --dry-run says which it has."""
    dtype: SegmentDType
    dry_run: bool = False
    """Say what would be done, and do nothing."""
    num_actors: int | None = None
    """Copies of the model that work side by side. By default as many as the GPUs hold; one a machine without GPUs."""
    gpus_per_actor: float = 1.0
    """Share of a GPU for each copy: 0.5 puts two on a GPU. Without meaning where there is no GPU."""
    wait_for_gpus: float = 0.0
    """Minutes to wait until the cluster's GPUs hold --num-actors, for clusters that grow; an autoscaler is asked."""
    batch_size: int | None = None
    compile: bool = False
    """Run the network through torch.compile: every actor begins half a minute to minutes later, and is then faster,
    which pays for long runs, mostly on GPUs."""
    shard_size: int = 1000
    """Images in each Parquet file of the tables."""
    chunk_size: int

    def __post_init__(self) -> None:
        storage.normalize_places(self, "output")
        check_least(self, shard_size=1, chunk_size=1, num_actors=1, batch_size=1)
        check_model_id(self.expect_model_id)
        if not 0 < self.gpus_per_actor <= 1:
            raise ValueError(f"--gpus-per-actor must be over 0 and at most 1, got {self.gpus_per_actor:g}")
        if not self.wait_for_gpus >= 0 or (self.wait_for_gpus and self.num_actors is None):
            raise ValueError(
                f"--wait-for-gpus {self.wait_for_gpus:g} is a number of minutes, and needs --num-actors to wait for"
            )


def own_options_first(config: type[T]) -> type[T]:
    """Class decorator: --help begins with what the job's own class names. Dataclasses put inherited fields first."""
    fields = {field.name: field for field in dataclasses.fields(config)}  # type: ignore[arg-type]
    config.__dataclass_fields__ = {name: fields[name] for name in (*config.__annotations__, *fields)}  # type: ignore[attr-defined]
    return config
