"""The generate job: draws images with masks from random seeds. All checks are made before Ray starts."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from ddpm_seg.data.schema import class_stats_table
from ddpm_seg.evaluation.scores.quality import write_quality
from ddpm_seg.model.samples.sampling import SamplingConfig
from ddpm_seg.pipeline.generate.config import GenerateConfig
from ddpm_seg.pipeline.generate.plan import CLASS_STATS, TABLE, GeneratePlan, plan_generate
from ddpm_seg.pipeline.generate.rows import SampleInput, SampleSpec
from ddpm_seg.pipeline.job import run_job, same_model
from ddpm_seg.pipeline.row import Row, chunk_row
from ddpm_seg.pipeline.work import actor_arguments, row_facts, stored_config
from ddpm_seg.runs.commit import Derive
from ddpm_seg.runs.contents import Contents
from ddpm_seg.runs.layout import RunLayout
from ddpm_seg.runs.ledger import KnownRun
from ddpm_seg.runs.parquet import damage_stops
from ddpm_seg.runs.summary import RunSummary

if TYPE_CHECKING:
    from ddpm_seg.cluster.nodes import Allocation
    from ddpm_seg.pipeline.stream import Stages

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class GenerateSummary:
    """What this call drew, and where the tables are."""

    samples: str
    report: str | None
    runs: tuple[RunSummary, ...]
    already_done: int
    quality: dict[str, Any] | None
    """The content of `quality.json`; None if there are no real images to compare with."""


@damage_stops()
def run_generate(config: GenerateConfig) -> GenerateSummary:
    """Finishes interrupted runs of the same output and configuration, then draws the samples that are missing.

    Before work begins, raises ValueError or OSError for a configuration, bundle, output or cluster that cannot be used,
    and AlreadyRunningError if another driver is doing the work. Later raises StageError if work failed; the same call
    can then continue.
    """
    plan = plan_generate(config)
    if config.dry_run:
        raise ValueError("run_generate has no dry run; call plan_generate(config) instead")
    done = run_job(GenerateWork(plan), lambda: GenerateWork(plan_generate(config)))
    if not done:
        logger.info("nothing new: all %d samples of seed %d are drawn already", config.num_samples, config.seed)
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


@dataclass(frozen=True, slots=True)
class GenerateWork:
    """The `Work` of the generate job: draws the samples that the output lacks."""

    found: GeneratePlan

    @property
    def derived(self) -> Mapping[str, Derive]:
        return {CLASS_STATS: class_stats_table} if self.found.header.task else {}

    def after(self, begun: KnownRun) -> GenerateWork:
        return GenerateWork(replace(self.found, run=self.found.run.following(begun)))

    def stored(self) -> dict[str, object]:
        stored = stored_config(self.found.config, "output", "model", "real", "inception")
        for field in dataclasses.fields(SamplingConfig):
            if field.name not in self.found.drawing.flags:  # of another kind of network
                del stored[field.name]
        return stored

    def details(self) -> dict[str, object]:
        header, options = self.found.header, self.found.config
        return {
            "model_id": header.model_id,
            "task": header.task.name if header.task else None,
            **self.found.drawing.details(),
            "samples": {"asked": options.num_samples, "already_done": self.found.run.already_done},
        }

    def chunk_size(self, actors: int) -> int:
        return self.found.config.chunk_size  # the same for any number of actors, so that batches stay full

    def local_inputs(self) -> list[str]:
        return []

    def to_row(self, shard: int, chunk: int, items: pa.Table) -> Row:
        rows = items.select(["image_id", "uri", "seed", "number"]).to_pylist()
        return chunk_row(shard, chunk, [SampleInput(**row) for row in rows])

    def stages(self, run: KnownRun, allocation: Allocation) -> Stages:
        from ddpm_seg.pipeline import stream
        from ddpm_seg.pipeline.generate import stages

        header, drawing, sampling = self.found.header, self.found.drawing, self.found.sampling
        spec = SampleSpec(
            **row_facts(run, header.model_id),
            task=header.task,
            sampler=drawing.sampler,
            sampling_steps=drawing.steps,
        )
        return stream.Stages(
            before=stages.nothing_to_read,
            actor=stages.Draw,
            actor_arguments={**actor_arguments(self.found.config, header.model_id, allocation), "sampling": sampling},
            after=stream.as_stage(stages.tabulate, spec),
            killed=stream.as_stage(stages.killed, spec),
        )

    def contents(self, run: KnownRun, allocation: Allocation) -> Contents:
        return Contents(run.manifest, run.planned())

    def error_limit(self, run: KnownRun, items: int) -> None:
        return None

    def write_report(self, run: KnownRun) -> None:
        from ddpm_seg.evaluation.pages.report import write_sample_report

        write_sample_report(self.found.run.output, run.layout.run_id)
