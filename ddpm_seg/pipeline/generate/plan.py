"""Which samples there are to draw: read from what is there, with nothing written."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ddpm_seg import storage
from ddpm_seg.json_text import json_digest
from ddpm_seg.model.bundle import BundleHeader, read_header
from ddpm_seg.model.bundle_files import refuse_another_model
from ddpm_seg.pipeline.generate.config import GenerateConfig
from ddpm_seg.runs.ledger import KnownRun, find_runs, input_keys, next_number, planned_keys
from ddpm_seg.runs.manifest import INPUTS, image_id
from ddpm_seg.runs.tables import damage_stops

TABLE = "samples"
CLASS_STATS = "sample_class_stats"

SAMPLES = pa.schema([*INPUTS, pa.field("seed", pa.int64()), pa.field("number", pa.int64())])
"""Rows of a manifest: `uri` is a sample's name, and there is no file, etag or time."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GeneratePlan:
    """What there is to do: `unfinished` runs to finish, then run `next_number` of the `new` samples (SAMPLES rows)."""

    config: GenerateConfig
    output: str
    header: BundleHeader
    config_hash: str
    already_done: int
    last_run: str | None
    """Id of the newest run so far."""
    unfinished: list[KnownRun]
    new: pa.Table
    next_number: int

    def __str__(self) -> str:
        config, left = self.config, sum(run.manifest.items.num_rows for run in self.unfinished)
        timesteps = ", ".join(map(str, reversed(config.sampling().timesteps(self.header.ddpm.diffusion))))
        return "\n".join(
            [
                f"model      {self.header.model_id}",
                f"samples    {config.num_samples} of seed {config.seed}",
                f"done       {self.already_done} of them by earlier runs with this model and these options",
                f"unfinished {left} in {len(self.unfinished)} interrupted runs, which are finished first",
                f"new        {self.new.num_rows} in {-(-self.new.num_rows // config.shard_size)} shards",
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
    items, output = sample_items(config.seed, config.num_samples), storage.normalize(config.output)
    config_hash = hash_config(config, header)
    number = next_number(output, config_hash, (TABLE, CLASS_STATS))
    runs = find_runs(output, TABLE, config_hash)
    unfinished, finished = [run for run in runs if not run.finished], [run for run in runs if run.finished]
    keys = input_keys(items)
    waiting = pc.is_in(keys, value_set=planned_keys(unfinished))
    new = items.filter(pc.invert(pc.or_(pc.is_in(keys, value_set=planned_keys(finished)), waiting)))
    return GeneratePlan(
        config=config,
        output=output,
        header=header,
        config_hash=config_hash,
        already_done=items.num_rows - new.num_rows - (pc.sum(waiting).as_py() or 0),
        last_run=runs[-1].layout.run_id if runs else None,
        unfinished=unfinished,
        new=new,
        next_number=number,
    )


def sample_items(seed: int, count: int) -> pa.Table:
    """SAMPLES rows of samples 0 to `count` of `seed`; their names sort as their numbers do."""
    names = [f"sample:{seed}/{number:09d}" for number in range(count)]
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
