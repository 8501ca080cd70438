"""What label and generate have in common: finish interrupted runs, make a run of the new items, do it on Ray."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import logging
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from typing import TYPE_CHECKING, TypeVar

from ddpm_seg import storage
from ddpm_seg.model.bundle.files import is_in_the_box, refuse_another_model, resolve
from ddpm_seg.model.errors import ModelChangedError
from ddpm_seg.model.trained import load_model
from ddpm_seg.pipeline.work import JobPlan, Work
from ddpm_seg.runs.commit import delete_chunks, delete_other_chunks, first_one_stays
from ddpm_seg.runs.heartbeat import heartbeat, refuse_if_running
from ddpm_seg.runs.ledger import KnownRun, delete_leftovers
from ddpm_seg.runs.parquet import DamagedFileError
from ddpm_seg.runs.plan import freeze_new
from ddpm_seg.runs.summary import RunSummary, write_run_json, write_summary
from ddpm_seg.version import __version__

if TYPE_CHECKING:
    from ddpm_seg.cluster import nodes
    from ddpm_seg.model.bundle.ensemble_bundle import Bundle
    from ddpm_seg.model.bundle.student_bundle import StudentBundle
    from ddpm_seg.pipeline import execute
    from ddpm_seg.pipeline.estimate import Pace

P = TypeVar("P", bound=JobPlan)

logger = logging.getLogger(__name__)


def run_job(work: Work, plan_again: Callable[[], Work]) -> list[RunSummary]:
    """Does all of `work`; returns the summaries of its runs, an empty list if there was nothing to do.

    `plan_again` is called if another driver has planned a run meanwhile. Before work begins, raises ValueError or
    OSError for a bundle, output or cluster that cannot be used, and AlreadyRunningError if another driver is doing the
    work. Later raises StageError if work failed, and TooManyErrors; the same call can then continue.
    """
    plan = work.found.run
    storage.check_writable(plan.output)
    if not first_one_stays(plan.output):
        logger.warning(
            "%s cannot create files only if absent (PUT with If-None-Match): if two jobs, or workers of an earlier "
            "job, write the same rows, the last ones stay. Run only one job at a time there",
            plan.output,
        )
    for run in plan.unfinished:
        refuse_if_running(run.layout)
    delete_leftovers(plan.output)
    return _work(work, plan_again) if plan.unfinished or plan.new.num_rows else []


def dry_run(
    found: P,
    time_here: Callable[[P, Bundle | StudentBundle], Pace | None] = lambda *_: None,
    count: Callable[[P], int | None] = lambda _: None,
) -> str:
    """Describes what would be done, where, and how long it would take.

    Also loads the model, so that damaged weights are found before a run. If no earlier run tells the pace, `time_here`
    measures it on a few items. `count` says about how many items there are to do.
    """
    from ddpm_seg.pipeline.estimate import estimate

    model = load_model(found.config.model, found.header.model_id)
    return f"{found}\n{estimate(found, lambda: time_here(found, model), count(found))}"


@contextmanager
def same_model() -> Iterator[None]:
    """Turns ModelChangedError into StageError: the model was replaced after planning, so no flag is to blame."""
    from ddpm_seg.errors import StageError

    try:
        yield
    except ModelChangedError as error:
        raise StageError(str(error)) from error


def _work(work: Work, plan_again: Callable[[], Work]) -> list[RunSummary]:
    with same_model():  # find damaged weights here, not in an actor that dies again and again
        load_model(work.found.config.model, work.found.header.model_id)
    allocation = _allocate(work)
    done: list[RunSummary] = []
    while True:
        for run in work.found.run.unfinished:
            logger.info("finishing %s, which was interrupted", run.layout.run_id)
            done.append(_finish(run, work, allocation))
        if not work.found.run.new.num_rows:
            return done
        shard_size, chunk_size = work.found.config.shard_size, work.chunk_size(allocation.actors)
        begun = freeze_new(work.found.run, work.stored(), shard_size=shard_size, chunk_size=chunk_size)
        if begun is not None:
            done.append(_finish(begun, work, allocation))
            work = work.after(begun)
            del begun  # with its manifest, before the next run has one
            continue
        with same_model():  # another driver was quicker, or all of it was forgotten: see what is left
            model_id, work = work.found.header.model_id, plan_again()
            refuse_another_model(work.found.config.model, work.found.header.model_id, model_id)


def _allocate(work: Work) -> nodes.Allocation:
    """Where the actors go. Raises ValueError for a cluster that cannot do the work."""
    # Imported here because Ray takes seconds to import, and a run with nothing to do should not wait for it.
    from ddpm_seg.cluster import nodes
    from ddpm_seg.cluster.gpu_wait import wait_for_gpus
    from ddpm_seg.model.device.processor import refuse_without_vnni, warn_if_slow

    options = work.found.config
    if options.num_actors and options.wait_for_gpus:
        alive = wait_for_gpus(options.num_actors, options.gpus_per_actor, options.wait_for_gpus)
    else:
        alive = nodes.connect()
    allocation = nodes.allocate(alive, num_actors=options.num_actors, gpus_per_actor=options.gpus_per_actor)
    if options.dtype == "int8" and allocation.actor_gpus:
        raise ValueError("--dtype int8 is for CPUs, and this cluster has GPUs; take bfloat16 or float16")
    if options.dtype == "int8" and len(alive) == 1:
        refuse_without_vnni()  # nodes of a larger cluster may have another processor than this one
    if not allocation.actor_gpus:
        warn_if_slow(options.dtype)  # actors do too, but into their own logs
    own = [] if is_in_the_box(options.model) else [resolve(options.model)]
    nodes.refuse_local_paths(alive, [work.found.run.output, *own, *work.local_inputs()])
    logger.info("actors: %d, each on %s", allocation.actors, allocation.describe())
    return allocation


def _finish(run: KnownRun, work: Work, allocation: nodes.Allocation) -> RunSummary:
    """Does everything that `run` lacks, up to its report, while no other driver works on it."""
    from ddpm_seg.errors import StageError

    try:
        with heartbeat(run.layout, check=run.planned().check):
            storage.delete_unfinished(run.layout.folder)  # before a heartbeat is written into the same folder
            return _carry_out(run, work, allocation)
    except (OSError, DamagedFileError) as error:  # in the driver's own files; failures of workers are StageErrors
        raise StageError(f"{run.layout.run_id}: {error}") from error


def _carry_out(run: KnownRun, work: Work, allocation: nodes.Allocation) -> RunSummary:
    from ddpm_seg.pipeline import execute

    started, planned = datetime.now(timezone.utc), run.planned()
    details = {**work.details(), **_surroundings(allocation)}
    write_run_json(run.layout, run.manifest.info, details)
    contents = work.contents(run, allocation)
    outcome = execute.execute(
        run,
        contents,
        to_row=work.to_row,
        stages=work.stages(run, allocation),
        allocation=allocation,
        derived=work.derived,
        max_errors=work.error_limit(run, contents.images),
        model_id=work.found.header.model_id,
    )
    planned.check()
    summary = _summary(run, len(contents.chunk_sizes()), outcome, started)
    write_summary(run.layout, summary)
    for table in (work.found.run.table, *work.derived):
        storage.delete_unfinished(run.layout.shards(table))
    work.write_report(run)  # which marks the run as finished: until then a resume needs what is in `_chunks`
    delete_chunks(planned.chunks)
    delete_other_chunks(planned)  # which an earlier driver's workers may have written meanwhile
    return summary


def _summary(run: KnownRun, shards: int, outcome: execute.Outcome, started: datetime) -> RunSummary:
    counts, seconds = outcome.counts, outcome.seconds
    return RunSummary(
        run_id=run.layout.run_id,
        config_hash=run.layout.config_hash,
        images=counts.total(),
        ok=counts["ok"],
        errors={kind: number for kind, number in sorted(counts.items()) if kind != "ok"},
        shards=shards,
        started_at=started,
        finished_at=datetime.now(timezone.utc),
        timed_images=outcome.timed,
        images_per_hour=outcome.timed / seconds["total"] * 3600 if outcome.timed else None,
        seconds=seconds,
        computed_by=sorted(outcome.computed_by),
    )


def _surroundings(allocation: nodes.Allocation) -> dict[str, object]:
    versions = {name: importlib.metadata.version(name) for name in ("ray", "torch", "pillow", "simplejpeg", "pyarrow")}
    return {
        "cluster": dataclasses.asdict(allocation),
        "versions": {"ddpm_seg": __version__, "python": platform.python_version(), **versions},
    }
