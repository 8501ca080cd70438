"""The label job: images in, masks and class statistics out. Everything that can be refused is, before Ray starts."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import logging
import platform
from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING

import pyarrow as pa

from ddpm_seg import storage
from ddpm_seg.data.schema import class_stats_table
from ddpm_seg.model.bundle import is_in_the_box, load_bundle, resolve
from ddpm_seg.pipeline.label_plan import TABLE, LabelConfig, LabelPlan, plan_label
from ddpm_seg.pipeline.label_rows import ImageInput, LabelSpec
from ddpm_seg.runs.commit import delete_chunks, first_one_stays
from ddpm_seg.runs.heartbeat import heartbeat, refuse_if_running
from ddpm_seg.runs.layout import RunLayout
from ddpm_seg.runs.ledger import KnownRun, delete_leftovers, freeze_run
from ddpm_seg.runs.manifest import Manifest, RunInfo, chunk_size_for, plan, stored_uri
from ddpm_seg.runs.summary import RunSummary, write_run_json, write_summary

if TYPE_CHECKING:
    from ddpm_seg.pipeline import cluster, execute

logger = logging.getLogger(__name__)

CLASS_STATS = "class_stats"


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelSummary:
    """Where the tables are and what became of the images that this call worked on."""

    labels: str
    class_stats: str
    report: str | None
    runs: tuple[RunSummary, ...]
    already_done: int
    skipped_files: int
    annotate_next: tuple[str, ...]
    """URIs of the images that `active` chose."""

    @property
    def images(self) -> int:
        return sum(run.images for run in self.runs)

    @property
    def ok(self) -> int:
        return sum(run.ok for run in self.runs)

    @property
    def errors(self) -> dict[str, int]:
        """Images by type of error."""
        return dict(sum((Counter(run.errors) for run in self.runs), Counter()))


def run_label(config: LabelConfig) -> LabelSummary:
    """Finishes interrupted runs of the same output and configuration, then labels what is new.

    An image that cannot be read is a row with `status = "error"`. Raises ValueError or OSError, before any work begins,
    for a configuration, bundle, input, output or cluster that cannot be used, and AlreadyRunningError where another
    driver is at it; StageError for work that failed, and TooManyErrors for input that is worse than `max_errors` says,
    after which the same call goes on where it stopped.
    """
    job = plan_label(config)
    if config.dry_run:
        raise ValueError("run_label does the work; plan_label(config) is what --dry-run shows")
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
    done: list[RunSummary] = []
    if job.unfinished or job.new.num_rows:
        done = _work(job)
    else:
        logger.info("nothing new: all %d images are labelled already", job.images)
    last_run = done[-1].run_id if done else job.last_run
    layout = RunLayout(output=job.output, table=TABLE, config_hash=job.config_hash, run_id=last_run or "")
    return LabelSummary(
        labels=layout.configuration(),
        class_stats=layout.configuration(CLASS_STATS),
        report=layout.report if last_run else None,
        runs=tuple(done),
        already_done=job.already_done,
        skipped_files=job.skipped_files,
        annotate_next=_annotate_next(job),
    )


def _annotate_next(job: LabelPlan) -> tuple[str, ...]:
    if job.config.active is None:
        return ()
    from ddpm_seg.evaluation.active import write_active

    count = job.config.active
    chosen = write_active(job.output, count, config_hash=job.config_hash, read_uris=job.read_uris)
    return tuple(choice.uri for choice in chosen)


def _work(job: LabelPlan) -> list[RunSummary]:
    # Ray takes seconds to import, and a run with nothing to do should not wait for it.
    from ddpm_seg.pipeline import cluster

    load_bundle(job.config.model)  # damaged weights are found here, not by an actor that dies again and again
    nodes = cluster.connect()
    placement = cluster.place(nodes, num_actors=job.config.num_actors, gpus_per_actor=job.config.gpus_per_actor)
    cluster.refuse_local_paths(nodes, _places(job))
    logger.info("%d actors, each on %s", placement.actors, placement.describe())
    done: list[RunSummary] = []
    while True:
        for run in job.unfinished:
            logger.info("finishing %s, which was interrupted", run.layout.run_id)
            done.append(_finish(run, job, placement))
        if not job.new.num_rows:
            return done
        chunk_size = chunk_size_for(job.new.num_rows, job.config.chunk_size, placement.actors)
        run_or_none = freeze_run(job.output, TABLE, _manifest(job, chunk_size), job.next_number)
        if run_or_none is not None:
            return [*done, _finish(run_or_none, job, placement)]
        job = plan_label(job.config)  # another driver was quicker: help with its run, then see what is left


def _places(job: LabelPlan) -> list[str]:
    """URIs that workers will open: the output, the model unless it is in the package, and a local image if any is."""
    images = [job.new, *(run.manifest.items for run in job.unfinished)]
    batches = (batch for items in images for batch in items.to_batches())
    local = next((uri for batch in batches for uri in batch["uri"].to_pylist() if storage.is_local(uri)), None)
    bundle = _model_for_workers(job.config.model)
    own = [] if is_in_the_box(bundle) else [bundle]
    return [job.output, *own, *([local] if local else [])]


def _model_for_workers(model: str) -> str:
    """A bundle in the package by its name, wherever the package stands on a worker; any other by its absolute URI."""
    return model if is_in_the_box(model) else resolve(model)


def _manifest(job: LabelPlan, chunk_size: int) -> Manifest:
    config = dataclasses.asdict(job.config) | {"output": job.output, "chunk_size": chunk_size}
    del config["dry_run"]
    for name in ("input", "output", "model"):
        config[name] = stored_uri(config[name]) if config[name] else config[name]
    info = RunInfo(run_id="", config_hash=job.config_hash, created_at=datetime.now(timezone.utc), config=config)
    return Manifest(info=info, items=plan(job.new, job.config.shard_size, chunk_size))


def _finish(run: KnownRun, job: LabelPlan, placement: cluster.Placement) -> RunSummary:
    """Everything that `run` lacks, up to its report, while nobody else is at it."""
    from ddpm_seg.pipeline.stages import StageError

    try:
        with heartbeat(run.layout):
            storage.delete_unfinished(run.layout.folder)  # before the first beat is written, in that folder too
            return _carry_out(run, job, placement)
    except OSError as error:  # the driver's own files; workers' problems are StageErrors already
        raise StageError(f"{run.layout.run_id}: {error}") from error


def _carry_out(run: KnownRun, job: LabelPlan, placement: cluster.Placement) -> RunSummary:
    from ddpm_seg.evaluation.report import write_report
    from ddpm_seg.pipeline import execute, stages, stream

    started = datetime.now(timezone.utc)
    spec = _spec(run, job)
    write_run_json(run.layout, run.manifest.info, _details(job, placement))
    outcome = execute.execute(
        run,
        to_row=lambda shard, chunk, items: stages.chunk_row(shard, chunk, _image_inputs(items, job.read_uris)),
        stages=stream.Stages(
            before=stream.as_stage(stages.fetch_and_decode, spec),
            actor=stages.Segment,
            actor_arguments={
                "model": _model_for_workers(job.config.model),
                "dtype": job.config.dtype,
                "batch_size": job.config.batch_size,
                "threads": placement.threads,
            },
            after=stream.as_stage(stages.tabulate, spec),
            killed=stream.as_stage(stages.killed, spec),
        ),
        placement=placement,
        derived={CLASS_STATS: class_stats_table},
        max_errors=job.config.error_limit(run.manifest.items.num_rows),
    )
    summary = _summary(run, outcome, started)
    if outcome.timed or not storage.exists(run.layout.summary):  # else it has the times of the work already
        write_summary(run.layout, summary)
    for folder in (run.layout.shards(), run.layout.shards(CLASS_STATS)):
        storage.delete_unfinished(folder)
    delete_chunks(run.layout.chunks)
    write_report(job.output, run.layout.run_id, read_uris=job.read_uris)
    return summary


def _spec(run: KnownRun, job: LabelPlan) -> LabelSpec:
    assert job.header.task is not None
    return LabelSpec(
        layout=run.layout,
        created_at=run.manifest.info.created_at,
        model_id=job.header.model_id,
        code_version=code_version(),
        image_size=job.header.unet.image_size,
        fit=job.config.fit,
        task=job.header.task,
    )


def _image_inputs(items: pa.Table, read_uris: dict[str, str]) -> list[ImageInput]:
    names = ("image_id", "uri", "etag", "size_bytes")
    return [
        ImageInput(read_uri=read_uris.get(row["uri"], row["uri"]), **row) for row in items.select(names).to_pylist()
    ]


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


def _details(job: LabelPlan, placement: cluster.Placement) -> dict[str, object]:
    versions = {name: importlib.metadata.version(name) for name in ("ray", "torch", "pillow", "pyarrow")}
    return {
        "model_id": job.header.model_id,
        "task": job.header.task.name if job.header.task else None,
        "files": {"images": job.images, "already_done": job.already_done, "skipped": job.skipped_files},
        "cluster": dataclasses.asdict(placement),
        "versions": {"ddpm_seg": code_version(), "python": platform.python_version(), **versions},
    }


def code_version() -> str:
    """The installed package's version; "unknown" in a checkout that is not installed."""
    try:
        return importlib.metadata.version("ddpm_seg")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
