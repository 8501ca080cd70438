"""What differs between jobs of runs (`Work`), and what each of them says in the same way."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

import pyarrow as pa

from ddpm_seg import __version__
from ddpm_seg.model.bundle.files import is_in_the_box, resolve
from ddpm_seg.pipeline.row import Row
from ddpm_seg.pipeline.run_options import RunOptions
from ddpm_seg.runs.commit import Derive
from ddpm_seg.runs.ledger import KnownRun
from ddpm_seg.runs.manifest import stored_uri
from ddpm_seg.runs.plan import RunPlan

if TYPE_CHECKING:
    from ddpm_seg.cluster.nodes import Allocation
    from ddpm_seg.model.bundle.ensemble_bundle import BundleHeader
    from ddpm_seg.model.bundle.student_bundle import StudentHeader
    from ddpm_seg.pipeline.stream import Stages


class JobPlan(Protocol):
    """What a job found and was told, as LabelPlan and GeneratePlan have it."""

    @property
    def run(self) -> RunPlan: ...

    @property
    def config(self) -> RunOptions: ...

    @property
    def header(self) -> BundleHeader | StudentHeader:
        """Of the bundle at `config.model` when the plan was made: whoever loads another model refuses it."""


class Work(Protocol):
    """What there is to do, and how. Methods import what needs Ray: where nothing is to do, nobody waits for it."""

    @property
    def found(self) -> JobPlan: ...

    @property
    def derived(self) -> Mapping[str, Derive]:
        """Tables that follow from the published one, by name."""

    def stored(self) -> dict[str, object]:
        """The options as the manifest keeps them: without credentials."""

    def details(self) -> Mapping[str, object]:
        """For run.json."""

    def chunk_size(self, actors: int) -> int:
        """Items of a chunk, with so many actors."""

    def local_inputs(self) -> list[str]:
        """Local paths, if any, that workers will read."""

    def to_row(self, shard: int, chunk: int, items: pa.Table) -> Row:
        """What the first stage gets for a chunk of the manifest's rows."""

    def stages(self, run: KnownRun, allocation: Allocation) -> Stages: ...

    def error_limit(self, run: KnownRun) -> int | None:
        """How many of the run's items may be errors; None for all."""

    def write_report(self, run: KnownRun) -> None:
        """Writes the last file of a run, which marks it as finished."""


def stored_config(options: RunOptions, *uris: str, **also: object) -> dict[str, object]:
    """`options` as a manifest keeps them: those named `uris` without credentials, and `also` in place or beside."""
    stored: dict[str, object] = {**dataclasses.asdict(options), **also}
    for name in ("dry_run", "expect_model_id", "price_per_hour"):  # what is asked of this call, and not what the run is
        del stored[name]
    for name in uris:
        stored[name] = stored_uri(str(stored[name])) if stored[name] else None
    return stored


def actor_arguments(options: RunOptions, model_id: str, allocation: Allocation) -> dict[str, object]:
    """What the resident actor of every job is told."""
    return {
        "model": model_for_workers(options.model),
        "model_id": model_id,
        "dtype": options.dtype,
        "batch_size": options.batch_size,
        "compile": options.compile,
        "threads": allocation.threads,
    }


def row_facts(run: KnownRun, model_id: str) -> dict[str, Any]:
    """The fields of a `RowSpec`."""
    return {
        "layout": run.layout,
        "created_at": run.manifest.info.created_at,
        "model_id": model_id,
        "code_version": __version__,
    }


def model_for_workers(model: str) -> str:
    """A bundle in the package by its name, wherever the package stands on a worker; any other by its absolute URI."""
    return model if is_in_the_box(model) else resolve(model)
