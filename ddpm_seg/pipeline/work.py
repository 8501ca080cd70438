"""What differs between label and generate (the protocol `Work`), and helpers that both use to describe their work."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

import pyarrow as pa

from ddpm_seg.model.bundle.files import is_in_the_box, resolve
from ddpm_seg.pipeline.row import Row
from ddpm_seg.pipeline.run_options import RunOptions
from ddpm_seg.runs.commit import Derive
from ddpm_seg.runs.contents import Contents
from ddpm_seg.runs.ledger import KnownRun
from ddpm_seg.runs.manifest import stored_uri
from ddpm_seg.runs.plan import RunPlan
from ddpm_seg.version import __version__

if TYPE_CHECKING:
    from ddpm_seg.cluster.nodes import Allocation
    from ddpm_seg.model.bundle.ensemble_bundle import BundleHeader
    from ddpm_seg.model.bundle.student_bundle import StudentHeader
    from ddpm_seg.pipeline.stream import Stages


class JobPlan(Protocol):
    """What a job found and was told to do; LabelPlan and GeneratePlan implement it."""

    @property
    def run(self) -> RunPlan: ...

    @property
    def config(self) -> RunOptions: ...

    @property
    def header(self) -> BundleHeader | StudentHeader:
        """The header of the bundle when the plan was made. Actors that later find another model refuse it."""


class Work(Protocol):
    """What there is to do, and how. Methods import Ray only when called, so that a job with nothing to do is fast."""

    @property
    def found(self) -> JobPlan: ...

    @property
    def derived(self) -> Mapping[str, Derive]:
        """Functions that make the tables derived from the published one, by table name."""

    def after(self, begun: KnownRun) -> Work:
        """What there is to do after the run that was made of the plan's new items."""

    def stored(self) -> dict[str, object]:
        """The options for the manifest, without credentials."""

    def details(self) -> Mapping[str, object]:
        """Details of the job for run.json."""

    def chunk_size(self, actors: int) -> int:
        """Items per chunk, given the number of actors."""

    def local_inputs(self) -> list[str]:
        """Local paths that workers will read; one is enough."""

    def to_row(self, shard: int, chunk: int, items: pa.Table) -> Row:
        """The first stage's row for a chunk with these items (`Contents.items`)."""

    def contents(self, run: KnownRun, allocation: Allocation) -> Contents:
        """What the run's shards consist of; looks into containers that no earlier attempt has looked into."""

    def stages(self, run: KnownRun, allocation: Allocation) -> Stages: ...

    def error_limit(self, run: KnownRun, items: int) -> int | None:
        """How many of the run's `items` items may have errors; None means no limit."""

    def write_report(self, run: KnownRun) -> None:
        """Writes the report, the last file of a run, which marks it as finished."""


def stored_config(options: RunOptions, *uris: str, **also: object) -> dict[str, object]:
    """The `options` for a manifest: fields named in `uris` without credentials; `also` adds or replaces values."""
    stored: dict[str, object] = {**dataclasses.asdict(options), **also}
    for name in ("dry_run", "expect_model_id", "price_per_hour"):  # these concern only this call, not the run
        del stored[name]
    for name in uris:
        stored[name] = stored_uri(str(stored[name])) if stored[name] else None
    return stored


def actor_arguments(options: RunOptions, model_id: str, allocation: Allocation) -> dict[str, object]:
    """The constructor arguments that the resident actors of both jobs share."""
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
    """How workers find the bundle: by name if it comes with the package, which may be installed elsewhere on a worker;
    otherwise by its absolute URI."""
    return model if is_in_the_box(model) else resolve(model)
