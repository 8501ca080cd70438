"""The label job: makes masks and class statistics from images. All checks are made before Ray starts."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from ddpm_seg import storage
from ddpm_seg.data.inputs.members import Place
from ddpm_seg.data.schema import DOMAIN_DISTANCE, class_stats_table
from ddpm_seg.fits import Average, fit_of
from ddpm_seg.model.trained import calibration_digest
from ddpm_seg.model.views import finer
from ddpm_seg.pipeline.job import run_job
from ddpm_seg.pipeline.label.config import LabelConfig
from ddpm_seg.pipeline.label.plan import CLASS_STATS, REFUSED, TABLE, LabelPlan, chosen_members, plan_label
from ddpm_seg.pipeline.label.read_uris import read_uri
from ddpm_seg.pipeline.label.rows import ImageInput, LabelSpec
from ddpm_seg.pipeline.label.target import describe_threshold, find_threshold
from ddpm_seg.pipeline.row import Row, chunk_row
from ddpm_seg.pipeline.work import actor_arguments, row_facts, stored_config
from ddpm_seg.runs.commit import Derive
from ddpm_seg.runs.contents import CONTAINER, Contents, units_of
from ddpm_seg.runs.layout import RunLayout
from ddpm_seg.runs.ledger import KnownRun
from ddpm_seg.runs.manifest import chunk_size_for
from ddpm_seg.runs.parquet import damage_stops
from ddpm_seg.runs.summary import RunSummary

if TYPE_CHECKING:
    from ddpm_seg.cluster.nodes import Allocation
    from ddpm_seg.pipeline.stream import Stages

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelSummary:
    """What became of the images of this call, and where the tables are."""

    config_hash: str
    """HASH of the folders `config=HASH` under `labels/` and `class_stats/`."""
    labels: str
    class_stats: str
    last_run: str | None
    """Id of the newest run, which may be an earlier call's."""
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
        """Number of images by error type."""
        return dict(sum((Counter(run.errors) for run in self.runs), Counter()))


@damage_stops()
def run_label(config: LabelConfig) -> LabelSummary:
    """Finishes interrupted runs of the same output and configuration, then labels what is new.

    An image that cannot be read becomes a row with `status = "error"`. Before work begins, raises ValueError or OSError
    for a configuration, bundle, input, output or cluster that cannot be used, and AlreadyRunningError if another driver
    is doing the work. Later raises StageError if work failed, and TooManyErrors if more than `max_errors` images have
    errors; the same call can then continue.
    """
    if config.dry_run:
        raise ValueError("run_label has no dry run; call plan_label(config) instead")
    threshold = find_threshold(config, lambda calibration: run_label(calibration).config_hash)
    plan = plan_label(config, threshold)
    done = run_job(LabelWork(plan), lambda: LabelWork(plan_label(config, threshold)))
    if not done:
        logger.info("nothing new: all %d images are labelled already", plan.images)
    last_run = done[-1].run_id if done else plan.run.last_run
    layout = RunLayout(output=plan.run.output, table=TABLE, config_hash=plan.run.config_hash, run_id=last_run or "")
    return LabelSummary(
        config_hash=plan.run.config_hash,
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
    from ddpm_seg.evaluation.pages.annotate_next import write_active

    count = plan.config.active
    chosen = write_active(plan.run.output, count, config_hash=plan.run.config_hash, read_uris=plan.read_uris)
    return tuple(choice.uri for choice in chosen)


@dataclass(frozen=True, slots=True)
class LabelWork:
    """The `Work` of the label job: labels the images that the plan found."""

    found: LabelPlan

    @property
    def average(self) -> Average:
        return self.found.config.average or "none"

    @property
    def derived(self) -> Mapping[str, Derive]:
        return {CLASS_STATS: class_stats_table}

    def after(self, begun: KnownRun) -> LabelWork:
        return LabelWork(replace(self.found, run=self.found.run.following(begun)))

    def stored(self) -> dict[str, object]:
        about = {DOMAIN_DISTANCE.name: True} if self.found.domain else {}
        uris = ("input", "output", "model", "calibration", "redo")
        stored = stored_config(self.found.config, *uris, retried_errors=self.found.run.retried, **about)
        # Runs without these look as they did before there were containers.
        unset = [name for name in ("image_key", "image_column", "uri_column") if stored[name] is None]
        return {name: value for name, value in stored.items() if name not in unset}

    def details(self) -> dict[str, object]:
        header, plan = self.found.header, self.found.run
        skipped = self.found.skipped_files + self.found.hidden_files
        return {
            "model_id": header.model_id,
            "task": header.task.name if header.task else None,
            **({"target_error": describe_threshold(self.found.threshold)} if self.found.threshold else {}),
            "files": {"images": self.found.images, "already_done": plan.already_done, "skipped": skipped},
        }

    def chunk_size(self, actors: int) -> int:
        return chunk_size_for(self.found.about_new, self.found.config.chunk_size, actors)

    def local_inputs(self) -> list[str]:
        plan = self.found.run
        images = [plan.new, *(run.manifest.items for run in plan.unfinished)]
        batches = chain(*(items.to_batches() for items in images), plan.later.batches() if plan.later else ())
        uris: Iterator[Any] = (uri for batch in batches for uri in batch["uri"].to_pylist())
        local = next(filter(storage.is_local, uris), None)
        return [local] if local else []  # one is enough for an error message

    def to_row(self, shard: int, chunk: int, items: pa.Table) -> Row:
        if CONTAINER in items.column_names:
            return chunk_row(shard, chunk, [self._in_container(row) for row in items.to_pylist()])
        names = [name for name in ("image_id", "uri", "etag", "size_bytes", REFUSED) if name in items.column_names]
        rows = items.select(names).to_pylist()
        known = self.found.read_uris
        return chunk_row(shard, chunk, [ImageInput(read_uri=read_uri(row["uri"], known), **row) for row in rows])

    def _in_container(self, row: dict[str, Any]) -> ImageInput:
        container = storage.FileInfo(
            uri=read_uri(row[CONTAINER], self.found.read_uris),
            size_bytes=row["container_bytes"],
            etag=row["etag"],
            modified=row["modified"],
        )
        name = row["uri"].removeprefix(f"{row[CONTAINER]}#")
        place = Place(container=container, name=name, start=row["start"] or 0, size=row["size_bytes"] or 0)
        return ImageInput(
            **{name: row[name] for name in ("image_id", "uri", "etag", "size_bytes", CONTAINER, "container_id")},
            read_uri=container.uri if row["start"] is None else f"{container.uri}#{name}",
            refused=row["fault"],
            place=place,
        )

    def contents(self, run: KnownRun, allocation: Allocation) -> Contents:
        if not units_of(run.manifest):
            return Contents(run.manifest, run.planned())
        from ddpm_seg.pipeline.label.containers import contents_of

        return contents_of(run, chosen_members(run.info.config), allocation, self.found.read_uris)

    def stages(self, run: KnownRun, allocation: Allocation) -> Stages:
        from ddpm_seg.pipeline import stream
        from ddpm_seg.pipeline.label import stages

        header = self.found.header
        assert header.task is not None  # plan_label
        spec = LabelSpec(
            **row_facts(run, header.model_id),
            image_size=header.image_size,
            fit=fit_of(header.provenance, self.found.config.fit),
            resize=self.found.config.resize or "bilinear",
            refine=self.found.config.refine or "none",
            finer=finer(self.average),
            tile=self.found.config.tile,
            maps=self.found.config.maps,
            least_confidence=self.found.threshold.confidence if self.found.threshold else 0,
            domain=bool(run.info.config.get(DOMAIN_DISTANCE.name)),
            allow_local_hosts=self.found.local_hosts,
            task=header.task,
        )
        return stream.Stages(
            before=stream.as_stage(stages.fetch_and_decode, spec),
            actor=stages.Segment,
            actor_arguments={
                **actor_arguments(self.found.config, header.model_id, allocation),
                "calibration": calibration_digest(header),
                "average": self.average,
                "tiles": self.found.config.tile is not None,
            },
            after=stream.as_stage(stages.tabulate, spec),
            killed=stream.as_stage(stages.killed, spec),
        )

    def error_limit(self, run: KnownRun, items: int) -> int | None:
        """See `Work.error_limit`. Adds the number of retried images, as all of them may fail again; otherwise a run of
        few new images and many known errors would stop."""
        limit = self.found.config.error_limit(items)
        retried = run.info.config.get("retried_errors", 0)
        return None if limit is None else limit + int(str(retried))

    def write_report(self, run: KnownRun) -> None:
        from ddpm_seg.evaluation.pages.report import write_report

        write_report(self.found.run.output, run.layout.run_id, read_uris=self.found.read_uris)
