"""The generate job: seeds in, images with masks out. Everything that can be refused is, before Ray starts."""

from __future__ import annotations

import dataclasses
import logging
import pickle
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from ddpm_seg.data.schema import class_stats_table
from ddpm_seg.evaluation.quality import check_real, write_quality
from ddpm_seg.pipeline.generate.config import GenerateConfig
from ddpm_seg.pipeline.generate.plan import CLASS_STATS, TABLE, GeneratePlan, plan_generate
from ddpm_seg.pipeline.generate.rows import SampleInput, SampleSpec
from ddpm_seg.pipeline.job import Job, code_version, model_for_workers, run_job, same_model
from ddpm_seg.runs.layout import RunLayout
from ddpm_seg.runs.ledger import KnownRun
from ddpm_seg.runs.manifest import stored_uri
from ddpm_seg.runs.summary import RunSummary
from ddpm_seg.runs.tables import damage_stops

if TYPE_CHECKING:
    from ddpm_seg.cluster.nodes import Placement
    from ddpm_seg.pipeline.stream import Stages

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class GenerateSummary:
    """Where the tables are, and what this call drew."""

    samples: str
    report: str | None
    runs: tuple[RunSummary, ...]
    already_done: int
    quality: dict[str, Any] | None
    """What `quality.json` says, where there are real images to compare with."""


@damage_stops()
def run_generate(config: GenerateConfig) -> GenerateSummary:
    """Finishes interrupted runs of the same output and configuration, then draws the samples that are missing.

    Raises ValueError or OSError, before any work begins, for a configuration, bundle, output or cluster that cannot be
    used, and AlreadyRunningError where another driver is at it; StageError for work that failed, after which the same
    call goes on where it stopped.
    """
    plan = plan_generate(config)
    if config.real:
        check_real(config.real)
    if config.dry_run:
        raise ValueError("run_generate does the work; plan_generate(config) is what --dry-run shows")
    done = run_job(_job(plan), lambda: _job(plan_generate(config)))
    if not done:
        logger.info("nothing new: all %d samples of seed %d are there", config.num_samples, config.seed)
    last_run = done[-1].run_id if done else plan.run.last_run
    layout = RunLayout(output=plan.run.output, table=TABLE, config_hash=plan.run.config_hash, run_id=last_run or "")
    return GenerateSummary(
        samples=layout.configuration(),
        report=layout.report if last_run else None,
        runs=tuple(done),
        already_done=plan.run.already_done,
        quality=_quality(plan),
    )


def _quality(plan: GeneratePlan) -> dict[str, Any] | None:
    if plan.config.real is None:
        return None
    with same_model():
        return write_quality(
            plan.run.output,
            config_hash=plan.run.config_hash,
            model=plan.config.model,
            model_id=plan.header.model_id,
            real=plan.config.real,
            inception=plan.config.inception,
        )


def _job(plan: GeneratePlan) -> Job:
    """The plan as a job of runs."""
    config = plan.config
    stored: dict[str, Any] = dataclasses.asdict(config) | {"output": stored_uri(plan.run.output)}
    for name in ("dry_run", "expect_model_id"):  # what is asked of this call, and not what the run is
        del stored[name]
    for name in ("model", "real", "inception"):
        stored[name] = stored_uri(stored[name]) if stored[name] else None
    return Job(
        output=plan.run.output,
        table=TABLE,
        config_hash=plan.run.config_hash,
        config=stored,
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
        # Never finer, however many actors: every batch is a full one.
        chunk_size=lambda actors: config.chunk_size,
        details={
            "model_id": plan.header.model_id,
            "task": plan.header.task.name if plan.header.task else None,
            "timesteps": config.sampling().timesteps(plan.header.ddpm.diffusion),
            "samples": {"asked": config.num_samples, "already_done": plan.run.already_done},
        },
        inputs=list,
        to_row=_to_row,
        stages=lambda run, placement: _stages(run, plan, placement),
        derived={CLASS_STATS: class_stats_table} if plan.header.task else {},
        error_limit=lambda run: None,
        write_report=lambda run: _write_report(run, plan),
    )


def _to_row(shard: int, chunk: int, items: pa.Table) -> dict[str, Any]:
    rows = items.select(["image_id", "uri", "seed", "number"]).to_pylist()
    payload = pickle.dumps([SampleInput(**row) for row in rows], protocol=5)
    return {"shard": shard, "chunk": chunk, "payload": payload}


def _stages(run: KnownRun, plan: GeneratePlan, placement: Placement) -> Stages:
    from ddpm_seg.pipeline import stream
    from ddpm_seg.pipeline.generate import stages

    config = plan.config
    spec = SampleSpec(
        layout=run.layout,
        created_at=run.manifest.info.created_at,
        model_id=plan.header.model_id,
        code_version=code_version(),
        task=plan.header.task,
        sampling=config.sampling(),
    )
    return stream.Stages(
        before=stages.nothing_to_read,
        actor=stages.Draw,
        actor_arguments={
            "model": model_for_workers(config.model),
            "model_id": plan.header.model_id,
            "sampling": config.sampling(),
            "dtype": config.dtype,
            "batch_size": config.batch_size,
            "compile": config.compile,
            "threads": placement.threads,
        },
        after=stream.as_stage(stages.tabulate_samples, spec),
        killed=stream.as_stage(stages.killed_samples, spec),
    )


def _write_report(run: KnownRun, plan: GeneratePlan) -> None:
    from ddpm_seg.evaluation.report import write_sample_report

    write_sample_report(plan.run.output, run.layout.run_id)
