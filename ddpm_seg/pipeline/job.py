"""What every job of runs does: finish what was interrupted, freeze what is new as a run, and carry it out on Ray."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import logging
import platform
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING

import pyarrow as pa

from ddpm_seg import storage
from ddpm_seg.model.bundle_files import ModelChangedError, is_in_the_box, refuse_another_model, resolve
from ddpm_seg.model.trained import load_model
from ddpm_seg.runs.commit import Derive, delete_chunks, delete_other_chunks, first_one_stays
from ddpm_seg.runs.heartbeat import heartbeat, refuse_if_running
from ddpm_seg.runs.ledger import KnownRun, delete_leftovers, freeze_run
from ddpm_seg.runs.manifest import Manifest, RunInfo, plan
from ddpm_seg.runs.summary import RunSummary, read_json, write_run_json, write_summary
from ddpm_seg.runs.tables import DamagedFileError

if TYPE_CHECKING:
    from ddpm_seg.cluster import nodes
    from ddpm_seg.model.dtypes import SegmentDType
    from ddpm_seg.pipeline import execute
    from ddpm_seg.pipeline.row import Row
    from ddpm_seg.pipeline.stream import Stages

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """What there is to do, and how: `unfinished` runs to finish, then a run numbered `next_number` of the `new` items.

    The functions import what needs Ray when they are called: a job with nothing to do should not wait for it.
    """

    output: str
    table: str
    config_hash: str
    config: Mapping[str, object]
    """As the manifest keeps it: without credentials."""
    unfinished: list[KnownRun]
    new: pa.Table
    """Rows with the columns of `manifest.INPUTS`, and more if `to_row` wants them."""
    next_number: int
    model: str
    model_id: str
    """Of the bundle at `model` when the plan was made: whoever loads another refuses it."""
    num_actors: int | None
    gpus_per_actor: float
    wait_for_gpus: float
    """Minutes."""
    dtype: SegmentDType
    shard_size: int
    chunk_size: Callable[[int], int]
    """Items of a chunk, where there are so many actors."""
    details: Mapping[str, object]
    """For run.json."""
    inputs: Callable[[], list[str]]
    """Local paths, if any, that workers will read."""
    to_row: Callable[[int, int, pa.Table], Row]
    stages: Callable[[KnownRun, nodes.Placement], Stages]
    derived: Mapping[str, Derive]
    error_limit: Callable[[KnownRun], int | None]
    """How many of a run's items may be errors."""
    write_report: Callable[[KnownRun], object]
    """The last file of a run, which marks it as finished."""


def run_job(job: Job, plan_again: Callable[[], Job]) -> list[RunSummary]:
    """Does all of `job`; the summaries of its runs, none where there was nothing to do.

    `plan_again` is asked where another driver was quicker to freeze a run. Raises ValueError or OSError, before any
    work begins, for a bundle, output or cluster that cannot be used, and AlreadyRunningError where another driver is at
    it; StageError for work that failed, and TooManyErrors, after which the same call goes on where it stopped.
    """
    storage.check_writable(job.output)
    if not first_one_stays(job.output):
        logger.warning(
            "%s overwrites what should be created only if absent (PUT, If-None-Match): of two jobs, or of one and a "
            "worker that outlives another, the last one's rows stay. Let one job at a time write there",
            storage.redact(job.output),
        )
    for run in job.unfinished:
        refuse_if_running(run.layout)
    delete_leftovers(job.output)
    return _work(job, plan_again) if job.unfinished or job.new.num_rows else []


def model_for_workers(model: str) -> str:
    """A bundle in the package by its name, wherever the package stands on a worker; any other by its absolute URI."""
    return model if is_in_the_box(model) else resolve(model)


@contextmanager
def same_model() -> Iterator[None]:
    """Turns ModelChangedError into StageError: the plan's model was replaced, and no flag of the command is wrong."""
    from ddpm_seg.errors import StageError

    try:
        yield
    except ModelChangedError as error:
        raise StageError(str(error)) from error


def code_version() -> str:
    """The installed package's version; "unknown" in a checkout that is not installed."""
    try:
        return importlib.metadata.version("ddpm_seg")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def _work(job: Job, plan_again: Callable[[], Job]) -> list[RunSummary]:
    # Ray takes seconds to import, and a run with nothing to do should not wait for it.
    from ddpm_seg.cluster import nodes

    with same_model():  # damaged weights are found here, not by an actor that dies again and again
        load_model(job.model, job.model_id)
    alive = _nodes(job)
    placement = nodes.place(alive, num_actors=job.num_actors, gpus_per_actor=job.gpus_per_actor)
    if job.dtype == "int8" and placement.actor_gpus:
        raise ValueError("--dtype int8 is for CPUs, and this cluster has GPUs; take bfloat16 or float16")
    own = [] if is_in_the_box(job.model) else [resolve(job.model)]
    nodes.refuse_local_paths(alive, [job.output, *own, *job.inputs()])
    logger.info("%d actors, each on %s", placement.actors, placement.describe())
    done: list[RunSummary] = []
    while True:
        for run in job.unfinished:
            logger.info("finishing %s, which was interrupted", run.layout.run_id)
            done.append(_finish(run, job, placement))
        if not job.new.num_rows:
            return done
        run_or_none = freeze_run(job.output, job.table, _manifest(job, placement.actors), job.next_number)
        if run_or_none is not None:
            return [*done, _finish(run_or_none, job, placement)]
        with same_model():  # another driver was quicker: help with its run, then see what is left
            begun, job = job, plan_again()
            refuse_another_model(job.model, job.model_id, begun.model_id)


def _nodes(job: Job) -> list[nodes.Node]:
    from ddpm_seg.cluster import nodes
    from ddpm_seg.cluster.gpu_wait import wait_for_gpus

    if job.num_actors and job.wait_for_gpus:
        return wait_for_gpus(job.num_actors, job.gpus_per_actor, job.wait_for_gpus)
    return nodes.connect()


def _manifest(job: Job, actors: int) -> Manifest:
    chunk_size = job.chunk_size(actors)
    info = RunInfo(
        run_id="",
        config_hash=job.config_hash,
        created_at=datetime.now(timezone.utc),
        config={**job.config, "chunk_size": chunk_size},
    )
    return Manifest(info=info, items=plan(job.new, job.shard_size, chunk_size))


def _finish(run: KnownRun, job: Job, placement: nodes.Placement) -> RunSummary:
    """Everything that `run` lacks, up to its report, while nobody else is at it."""
    from ddpm_seg.errors import StageError

    try:
        with heartbeat(run.layout, check=run.planned().check):
            storage.delete_unfinished(run.layout.folder)  # before the first beat is written, in that folder too
            return _carry_out(run, job, placement)
    except (OSError, DamagedFileError) as error:  # the driver's own files; workers' problems are StageErrors already
        raise StageError(f"{run.layout.run_id}: {error}") from error


def _carry_out(run: KnownRun, job: Job, placement: nodes.Placement) -> RunSummary:
    from ddpm_seg.pipeline import execute

    started, planned = datetime.now(timezone.utc), run.planned()
    write_run_json(run.layout, run.manifest.info, {**job.details, **_surroundings(placement)})
    outcome = execute.execute(
        run,
        to_row=job.to_row,
        stages=job.stages(run, placement),
        placement=placement,
        derived=job.derived,
        max_errors=job.error_limit(run),
        model_id=job.model_id,
    )
    planned.check()
    summary = _summary(run, outcome, started)
    if outcome.timed or not _has_summary(run):  # else it has the times of the work already
        write_summary(run.layout, summary)
    for table in (job.table, *job.derived):
        storage.delete_unfinished(run.layout.shards(table))
    delete_chunks(planned.chunks)
    delete_other_chunks(planned)  # of workers that outlived an earlier driver
    job.write_report(run)
    return summary


def _has_summary(run: KnownRun) -> bool:
    """Whether an earlier attempt wrote one that can be read."""
    try:
        read_json(run.layout.summary)
    except (FileNotFoundError, DamagedFileError):
        return False
    return True


def _summary(run: KnownRun, outcome: execute.Outcome, started: datetime) -> RunSummary:
    counts, seconds = outcome.counts, outcome.seconds
    return RunSummary(
        run_id=run.layout.run_id,
        config_hash=run.layout.config_hash,
        images=counts.total(),
        ok=counts["ok"],
        errors={kind: number for kind, number in sorted(counts.items()) if kind != "ok"},
        shards=len(run.manifest.shard_sizes()),
        started_at=started,
        finished_at=datetime.now(timezone.utc),
        timed_images=outcome.timed,
        images_per_hour=outcome.timed / seconds["total"] * 3600 if outcome.timed else None,
        seconds=seconds,
    )


def _surroundings(placement: nodes.Placement) -> dict[str, object]:
    versions = {name: importlib.metadata.version(name) for name in ("ray", "torch", "pillow", "pyarrow")}
    return {
        "cluster": dataclasses.asdict(placement),
        "versions": {"ddpm_seg": code_version(), "python": platform.python_version(), **versions},
    }
