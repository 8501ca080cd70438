"""Plans the generate job: finds the samples that are still to draw. Writes nothing."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from ddpm_seg.data.sample_names import SampleName
from ddpm_seg.evaluation.scores.quality import check_real
from ddpm_seg.json_text import json_digest
from ddpm_seg.model.bundle.ensemble_bundle import BundleHeader, read_header
from ddpm_seg.model.bundle.files import refuse_another_model
from ddpm_seg.model.samples.drawing import Drawing
from ddpm_seg.model.samples.sampling import SamplingConfig
from ddpm_seg.pipeline.generate.config import GenerateConfig
from ddpm_seg.runs.manifest import INPUTS, image_id
from ddpm_seg.runs.parquet import damage_stops
from ddpm_seg.runs.plan import RunPlan, plan_run

TABLE = "samples"
CLASS_STATS = "sample_class_stats"

SAMPLES = pa.schema([*INPUTS, pa.field("seed", pa.int64()), pa.field("number", pa.int64())])
"""Columns of a manifest of samples. `uri` is a sample's name; as there is no file, etag, size and time are null."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GeneratePlan:
    """The job's settings, and what there is to do (`run`, whose items are SAMPLES rows)."""

    config: GenerateConfig
    header: BundleHeader
    sampling: SamplingConfig
    drawing: Drawing
    """How the model's network draws with the settings of `config`."""
    run: RunPlan

    def __str__(self) -> str:
        config, run, new = self.config, self.run, self.run.items_new
        return "\n".join(
            [
                f"model      {self.header.model_id}",
                f"samples    {config.num_samples} of seed {config.seed}",
                f"done       {run.already_done} of them by earlier runs with this model and these options",
                f"unfinished {run.items_left} in {len(run.unfinished)} interrupted runs, to be finished first",
                f"new        {new} in {-(-new // config.shard_size)} shards",
                *(f"{title:<10} {text}" for title, text in self.drawing.lines().items()),
                "labels     " + (f"{self.header.num_members} members" if self.header.task else "none: no ensemble"),
            ]
        )


@damage_stops()
def plan_generate(config: GenerateConfig) -> GeneratePlan:
    """Plans the job; only reads.

    Raises ValueError or OSError for a bundle that cannot be used or cannot draw images, for a sampler or a number
    format that it does not have, and for real images to compare with that are not there; StageError for a file of the
    output that cannot be read.
    """
    header = read_header(config.model)
    refuse_another_model(config.model, header.model_id, config.expect_model_id)
    sampling = as_learnt(config.sampling(), header)
    drawing = header.network.drawing(sampling)
    header.network.check_dtype(config.dtype)
    if config.real is not None:
        check_real(config.real, header.network, config.inception)
    items = sample_items(config.seed, config.num_samples)
    run = plan_run(items, config.output, (TABLE, CLASS_STATS), hash_config(config, header, drawing))
    return GeneratePlan(config=config, header=header, sampling=sampling, drawing=drawing, run=run)


def as_learnt(sampling: SamplingConfig, header: BundleHeader) -> SamplingConfig:
    """`sampling` with the truncation that the bundle's ensemble was trained at, if it has one.

    Raises ValueError if `sampling` asks for a different truncation.
    """
    learnt = header.features.truncation if header.features else None
    if learnt is None:
        return sampling
    if sampling.truncation not in (None, learnt):
        raise ValueError(
            f"--truncation {sampling.truncation:g}: this bundle's ensemble was trained at {learnt:g}; leave it out, or "
            f"train with ddpm-seg train --truncation {sampling.truncation:g}"
        )
    return replace(sampling, truncation=learnt)


def sample_items(seed: int, count: int) -> pa.Table:
    """SAMPLES rows for the first `count` samples of `seed`. Names sort in the order of the numbers."""
    names = [str(SampleName(seed, number)) for number in range(count)]
    columns = {
        "image_id": [image_id(name) for name in names],
        "uri": names,
        "seed": np.full(count, seed, np.int64),
        "number": np.arange(count),
    }
    nothing = {name: pa.nulls(count, SAMPLES.field(name).type) for name in ("etag", "size_bytes", "modified")}
    return pa.table({name: ({**columns, **nothing})[name] for name in SAMPLES.names}, schema=SAMPLES)


def hash_config(config: GenerateConfig, header: BundleHeader, drawing: Drawing) -> str:
    """The config_hash, 12 hex digits: a hash of the model and every option that can change a pixel of the output."""
    content = {"model_id": header.model_id, "dtype": config.dtype, **drawing.settings()}
    if header.calibration is not None:
        content["calibration"] = header.calibration.digest
    return json_digest(content)[:12]
