"""Which samples there are to draw: read from what is there, with nothing written."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from ddpm_seg.data.sample_names import SampleName
from ddpm_seg.json_text import json_digest
from ddpm_seg.model.bundle.ensemble_bundle import BundleHeader, read_header
from ddpm_seg.model.bundle.files import refuse_another_model
from ddpm_seg.pipeline.generate.config import GenerateConfig
from ddpm_seg.runs.manifest import INPUTS, image_id
from ddpm_seg.runs.parquet import damage_stops
from ddpm_seg.runs.plan import RunPlan, plan_run

TABLE = "samples"
CLASS_STATS = "sample_class_stats"

SAMPLES = pa.schema([*INPUTS, pa.field("seed", pa.int64()), pa.field("number", pa.int64())])
"""Rows of a manifest: `uri` is a sample's name, and there is no file, etag or time."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GeneratePlan:
    """What was asked, and what there is to do (`run`, whose items are SAMPLES rows)."""

    config: GenerateConfig
    header: BundleHeader
    run: RunPlan

    def __str__(self) -> str:
        config, run, new = self.config, self.run, self.run.new.num_rows
        timesteps = ", ".join(map(str, reversed(config.sampling().timesteps(self.header.ddpm.diffusion))))
        return "\n".join(
            [
                f"model      {self.header.model_id}",
                f"samples    {config.num_samples} of seed {config.seed}",
                f"done       {run.already_done} of them by earlier runs with this model and these options",
                f"unfinished {run.items_left} in {len(run.unfinished)} interrupted runs, which are finished first",
                f"new        {new} in {-(-new // config.shard_size)} shards",
                f"timesteps  {timesteps}",
                "labels     " + (f"{self.header.num_members} members" if self.header.task else "none: no ensemble"),
            ]
        )


@damage_stops()
def plan_generate(config: GenerateConfig) -> GeneratePlan:
    """Reads what is there, writes nothing.

    Raises ValueError or OSError for a bundle or sampler that cannot be used, StageError for a file of the output that
    cannot be read.
    """
    header = read_header(config.model)
    refuse_another_model(config.model, header.model_id, config.expect_model_id)
    config.sampling().timesteps(header.ddpm.diffusion)
    items = sample_items(config.seed, config.num_samples)
    config_hash = hash_config(config, header)
    return GeneratePlan(
        config=config, header=header, run=plan_run(items, config.output, (TABLE, CLASS_STATS), config_hash)
    )


def sample_items(seed: int, count: int) -> pa.Table:
    """SAMPLES rows of samples 0 to `count` of `seed`; their names sort as their numbers do."""
    names = [str(SampleName(seed, number)) for number in range(count)]
    columns = {
        "image_id": [image_id(name) for name in names],
        "uri": names,
        "seed": np.full(count, seed, np.int64),
        "number": np.arange(count),
    }
    nothing = {name: pa.nulls(count, SAMPLES.field(name).type) for name in ("etag", "size_bytes", "modified")}
    return pa.table({name: ({**columns, **nothing})[name] for name in SAMPLES.names}, schema=SAMPLES)


def hash_config(config: GenerateConfig, header: BundleHeader) -> str:
    """12 hex digits over the model and every option that can change a pixel of the output. It names outputs."""
    sampling = config.sampling()
    content = {
        "model_id": header.model_id,
        "dtype": config.dtype,
        "sampler": sampling.sampler,
        "timesteps": sampling.timesteps(header.ddpm.diffusion),
        "eta": sampling.eta,
    }
    return json_digest(content)[:12]
