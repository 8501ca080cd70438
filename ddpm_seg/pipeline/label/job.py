"""The label job: images in, masks and class statistics out. Everything that can be refused is, before Ray starts."""

from __future__ import annotations

import dataclasses
import logging
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from ddpm_seg import storage
from ddpm_seg.data.schema import class_stats_table
from ddpm_seg.pipeline.job import Job, code_version, model_for_workers, run_job
from ddpm_seg.pipeline.label.config import LabelConfig
from ddpm_seg.pipeline.label.plan import CLASS_STATS, REFUSED, TABLE, LabelPlan, plan_label
from ddpm_seg.pipeline.label.rows import ImageInput, LabelSpec
from ddpm_seg.runs.layout import RunLayout
from ddpm_seg.runs.ledger import KnownRun
from ddpm_seg.runs.manifest import chunk_size_for, stored_uri
from ddpm_seg.runs.summary import RunSummary
from ddpm_seg.runs.tables import damage_stops

if TYPE_CHECKING:
    from ddpm_seg.cluster.nodes import Placement
    from ddpm_seg.pipeline.stream import Stages

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelSummary:
    """Where the tables are and what became of the images that this call worked on."""

    labels: str
    class_stats: str
    last_run: str | None
    """Id of the newest run, be it of an earlier call."""
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


@damage_stops()
def run_label(config: LabelConfig) -> LabelSummary:
    """Finishes interrupted runs of the same output and configuration, then labels what is new.

    An image that cannot be read is a row with `status = "error"`. Raises ValueError or OSError, before any work begins,
    for a configuration, bundle, input, output or cluster that cannot be used, and AlreadyRunningError where another
    driver is at it; StageError for work that failed, and TooManyErrors for input that is worse than `max_errors` says,
    after which the same call goes on where it stopped.
    """
    plan = plan_label(config)
    if config.dry_run:
        raise ValueError("run_label does the work; plan_label(config) is what --dry-run shows")
    done = run_job(_job(plan), lambda: _job(plan_label(config)))
    if not done:
        logger.info("nothing new: all %d images are labelled already", plan.images)
    last_run = done[-1].run_id if done else plan.run.last_run
    layout = RunLayout(output=plan.run.output, table=TABLE, config_hash=plan.run.config_hash, run_id=last_run or "")
    return LabelSummary(
        labels=layout.configuration(),
        class_stats=layout.configuration(CLASS_STATS),
        last_run=last_run,
        report=layout.report if last_run else None,
        runs=tuple(done),
        already_done=plan.run.already_done,
        skipped_files=plan.skipped_files + plan.hidden_files,
        annotate_next=_annotate_next(plan),
    )


def _annotate_next(plan: LabelPlan) -> tuple[str, ...]:
    if plan.config.active is None:
        return ()
    from ddpm_seg.evaluation.active import write_active

    count = plan.config.active
    chosen = write_active(plan.run.output, count, config_hash=plan.run.config_hash, read_uris=plan.read_uris)
    return tuple(choice.uri for choice in chosen)


def _job(plan: LabelPlan) -> Job:
    """The plan as a job of runs."""
    config = plan.config
    return Job(
        output=plan.run.output,
        table=TABLE,
        config_hash=plan.run.config_hash,
        config=_stored(plan),
        unfinished=plan.run.unfinished,
        new=plan.run.new,
        next_number=plan.run.next_number,
        model=config.model,
        model_id=plan.header.model_id,
        num_actors=config.num_actors,
        gpus_per_actor=config.gpus_per_actor,
        wait_for_gpus=config.wait_for_gpus,
        dtype=config.dtype,
        shard_size=config.shard_size,
        chunk_size=lambda actors: chunk_size_for(plan.run.new.num_rows, config.chunk_size, actors),
        details={
            "model_id": plan.header.model_id,
            "task": plan.header.task.name if plan.header.task else None,
            "files": {
                "images": plan.images,
                "already_done": plan.run.already_done,
                "skipped": plan.skipped_files + plan.hidden_files,
            },
        },
        inputs=lambda: _local_inputs(plan),
        to_row=lambda shard, chunk, items: _to_row(shard, chunk, items, plan.read_uris),
        stages=lambda run, placement: _stages(run, plan, placement),
        derived={CLASS_STATS: class_stats_table},
        error_limit=lambda run: _error_limit(run, config),
        write_report=lambda run: _write_report(run, plan),
    )


def _error_limit(run: KnownRun, config: LabelConfig) -> int | None:
    """What failed before may fail again: else a night of few new images and many known errors would stop for good."""
    limit, retried = config.error_limit(run.manifest.items.num_rows), run.info.config.get("retried_errors", 0)
    return None if limit is None else limit + int(str(retried))


def _stored(plan: LabelPlan) -> dict[str, object]:
    config: dict[str, object] = dataclasses.asdict(plan.config) | {"output": plan.run.output}
    config["retried_errors"] = plan.run.retried
    for name in ("dry_run", "expect_model_id"):  # what is asked of this call, and not what the run is
        del config[name]
    for name in ("input", "output", "model"):
        config[name] = stored_uri(str(config[name])) if config[name] else config[name]
    return config


def _local_inputs(plan: LabelPlan) -> list[str]:
    """A local image, if there is any."""
    images = [plan.run.new, *(run.manifest.items for run in plan.run.unfinished)]
    batches = (batch for items in images for batch in items.to_batches())
    local = next((uri for batch in batches for uri in batch["uri"].to_pylist() if storage.is_local(uri)), None)
    return [local] if local else []


def _to_row(shard: int, chunk: int, items: pa.Table, read_uris: dict[str, str]) -> dict[str, object]:
    from ddpm_seg.pipeline.label.stages import chunk_row

    names = [name for name in ("image_id", "uri", "etag", "size_bytes", REFUSED) if name in items.column_names]
    rows = items.select(names).to_pylist()
    return chunk_row(shard, chunk, [ImageInput(read_uri=read_uris.get(row["uri"], row["uri"]), **row) for row in rows])


def _stages(run: KnownRun, plan: LabelPlan, placement: Placement) -> Stages:
    from ddpm_seg.pipeline import stream
    from ddpm_seg.pipeline.label import stages

    assert plan.header.task is not None
    spec = LabelSpec(
        layout=run.layout,
        created_at=run.manifest.info.created_at,
        model_id=plan.header.model_id,
        code_version=code_version(),
        image_size=plan.header.image_size,
        fit=plan.config.fit,
        allow_local_hosts=plan.local_hosts,
        task=plan.header.task,
    )
    return stream.Stages(
        before=stream.as_stage(stages.fetch_and_decode, spec),
        actor=stages.Segment,
        actor_arguments={
            "model": model_for_workers(plan.config.model),
            "model_id": plan.header.model_id,
            "dtype": plan.config.dtype,
            "batch_size": plan.config.batch_size,
            "compile": plan.config.compile,
            "threads": placement.threads,
        },
        after=stream.as_stage(stages.tabulate, spec),
        killed=stream.as_stage(stages.killed, spec),
    )


def _write_report(run: KnownRun, plan: LabelPlan) -> None:
    from ddpm_seg.evaluation.report import write_report

    write_report(plan.run.output, run.layout.run_id, read_uris=plan.read_uris)
