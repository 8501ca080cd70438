"""Writes published generated samples as the table that jobs.generate writes, so that a student can learn from them."""

from __future__ import annotations

import dataclasses
import platform
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ddpm_seg import storage
from ddpm_seg.data.annotations.task_file import find_task
from ddpm_seg.data.canvas import Placement
from ddpm_seg.data.published_samples import PublishedSamples, SampleBatch
from ddpm_seg.data.schema import class_stats_table, samples_schema
from ddpm_seg.data.statistics import image_statistics
from ddpm_seg.data.table_pictures import picture_cell
from ddpm_seg.errors import work_began
from ddpm_seg.evaluation.pages.report import write_sample_report
from ddpm_seg.json_text import json_digest
from ddpm_seg.model.published.convert_checks import refuse_beside_gan_samples
from ddpm_seg.model.published.convert_config import ConvertConfig
from ddpm_seg.pipeline.generate.plan import CLASS_STATS, SAMPLES, TABLE
from ddpm_seg.pipeline.table_rows import outcome_columns
from ddpm_seg.progress import Progress
from ddpm_seg.runs.fresh_output import fresh_output
from ddpm_seg.runs.layout import RunLayout, run_id, uris_under
from ddpm_seg.runs.ledger import find_runs
from ddpm_seg.runs.manifest import Manifest, RunInfo, create_manifest, image_id
from ddpm_seg.runs.shard_writer import ShardWriter
from ddpm_seg.runs.summary import write_run_json, write_summary
from ddpm_seg.tasks import UNLABELLED, Task
from ddpm_seg.version import __version__

SAMPLER = "published"
SHARD_SIZE = 1000


@dataclass(frozen=True, kw_only=True, slots=True)
class ConvertedSamples:
    """Where the table is, and how many samples it has."""

    layout: RunLayout
    samples: int


def convert_samples(config: ConvertConfig) -> ConvertedSamples:
    """Writes the samples of `config.gan_samples` to `config.output`, unless an earlier call has done so.

    An interrupted call is started over. Raises ValueError for a file that is damaged, refused or does not fit
    `config.task`, and for an output that holds something else; then nothing of it stays. OSError for a file that cannot
    be read, StageError if the output cannot be written any more.
    """
    refuse_beside_gan_samples(config)
    assert config.gan_samples is not None
    assert config.task is not None
    task = find_task(config.task)
    with PublishedSamples(config.gan_samples) as samples:
        config_hash = json_digest({"samples": samples.digest, "task": task.to_dict()})[:12]
        layout = RunLayout(output=config.output, table=TABLE, config_hash=config_hash, run_id=run_id(1))
        if not any(run.finished for run in find_runs(config.output, TABLE, config_hash)):
            with fresh_output(config.output):
                try:
                    with work_began():
                        _Conversion(config.gan_samples, samples, task, layout).run()
                except ValueError:
                    for uri in uris_under(storage.join(config.output, TABLE)):
                        storage.delete(uri)
                    raise
        return ConvertedSamples(layout=layout, samples=samples.count)


class _Conversion:
    def __init__(self, uri: str, samples: PublishedSamples, task: Task, layout: RunLayout) -> None:
        self.file, self.samples, self.task, self.layout = storage.redact(uri).rpartition("/")[2], samples, task, layout
        self.info = RunInfo(
            run_id=layout.run_id,
            config_hash=layout.config_hash,
            created_at=datetime.now(timezone.utc),
            config={"gan_samples": storage.redact(uri), "task": task.name},
        )

    def run(self) -> None:
        writer = ShardWriter(self.layout, {CLASS_STATS: class_stats_table}, SHARD_SIZE)
        write_run_json(self.layout, self.info, self._details())
        progress = Progress("samples", total=self.samples.count, unit="samples", done=0)
        with ThreadPoolExecutor() as pool, progress:
            for batch in self.samples.batches():
                self._check(batch)
                rows = list(pool.map(lambda index, batch=batch: self._row(batch, index), range(len(batch.images))))
                writer.add(pa.Table.from_pylist(rows, schema=samples_schema(self.task)), _items(rows))
                progress.at(batch.first + len(rows))
        writer.flush()
        create_manifest(self.layout, Manifest(info=self.info, items=pa.concat_tables(writer.planned)))
        write_summary(self.layout, writer.summary(self.info.created_at))
        write_sample_report(self.layout.output, self.layout.run_id)  # marks the run as finished

    def _details(self) -> dict[str, object]:
        return {
            "model_id": self._model_id,
            "task": self.task.name,
            "samples": {"asked": self.samples.count, "already_done": 0},
            "cluster": {},
            "versions": {"ddpm_seg": __version__, "python": platform.python_version()},
        }

    @property
    def _model_id(self) -> str:
        """The file stands for the model, which is not known."""
        return self.samples.digest[:16]

    def _check(self, batch: SampleBatch) -> None:
        """Raises ValueError for a class that the task does not have."""
        unknown = (batch.labels >= self.task.num_classes) & (batch.labels != UNLABELLED)
        if unknown.any():
            wrong = int(np.flatnonzero(unknown.any(axis=(1, 2)))[0])
            class_id = int(batch.labels[wrong][unknown[wrong]][0])
            raise ValueError(
                f"{self.samples.name}: sample {batch.first + wrong} has class {class_id}, but {self.task.name} has "
                f"{self.task.num_classes} classes; give the --task that these samples were labelled with"
            )

    def _row(self, batch: SampleBatch, index: int) -> dict[str, Any]:
        image, mask, number = batch.images[index], batch.labels[index], batch.first + index
        uri = f"{self.file}#{number:09d}"
        return {
            "image_id": image_id(uri),
            "uri": uri,
            "number": number,
            "sampler": SAMPLER,
            **outcome_columns(None, None),
            "width": self.samples.size,
            "height": self.samples.size,
            "image": picture_cell(image),
            "mask": picture_cell(mask),
            "uncertainty": float(batch.uncertainty[index]),
            "classes": _classes(mask, self.task.class_names),
            "model_id": self._model_id,
            "config_hash": self.layout.config_hash,
            "code_version": __version__,
            "run_id": self.layout.run_id,
            "created_at": self.info.created_at,
        }


def _classes(mask: NDArray[np.uint8], class_names: tuple[str, ...]) -> list[dict[str, Any]]:
    """The column `classes` of a mask (S, S) uint8; how certain each class is was not published."""
    size, unknown = len(mask), np.zeros(mask.shape, np.float32)
    whole = Placement(left=0, top=0, width=size, height=size, image_width=size, image_height=size)
    found = image_statistics(mask, unknown, unknown, mask, whole, class_names).classes
    return [{**dataclasses.asdict(one), "mean_confidence": None, "mean_uncertainty": None} for one in found]


def _items(rows: Sequence[dict[str, Any]]) -> pa.Table:
    """The manifest's rows."""
    return pa.Table.from_pylist([{name: row.get(name) for name in SAMPLES.names} for row in rows], schema=SAMPLES)
