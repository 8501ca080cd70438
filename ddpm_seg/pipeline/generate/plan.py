"""What the generate job is asked, and which samples there are to draw: read from what is there, nothing written."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ddpm_seg import storage
from ddpm_seg.checks import check_least
from ddpm_seg.json_text import json_digest
from ddpm_seg.model.bundle import BundleHeader, read_header
from ddpm_seg.model.bundle_files import check_model_id, refuse_another_model
from ddpm_seg.model.dtypes import DType
from ddpm_seg.model.generator import Sampler, SamplingConfig
from ddpm_seg.pipeline.actor_options import check_actor_options
from ddpm_seg.runs.ledger import KnownRun, find_runs, input_keys, next_number, planned_keys
from ddpm_seg.runs.manifest import INPUTS, image_id
from ddpm_seg.runs.tables import damage_stops

TABLE = "samples"
CLASS_STATS = "sample_class_stats"

SAMPLES = pa.schema([*INPUTS, pa.field("seed", pa.int64()), pa.field("number", pa.int64())])
"""Rows of a manifest: `uri` is a sample's name, and there is no file, etag or time."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GenerateConfig:
    """Images drawn from a model, with their masks, as Parquet."""

    model: str = "avatars-10"
    """Model bundle: the name of one that comes with the package, or where jobs.train, jobs.pretrain or jobs.convert
    wrote one. Without an ensemble, its samples are not labelled."""
    expect_model_id: str | None = None
    """The model_id that the bundle must have, or nothing is done: for nights whose model must not change unnoticed.
    --dry-run says which it has."""
    num_samples: int = 100
    """Samples 0 to this number of the seed. A larger number later draws only what is missing."""
    seed: int = 0
    """Each sample depends on the seed and its own number alone."""
    output: str = "samples"
    """Folder or prefix for the tables."""
    sampler: Sampler = "ddim"
    """DDIM, ancestral sampling (ddpm), or DPM-Solver++ of second order."""
    steps: int = 20
    """Evaluations of the network for a sample."""
    eta: float = 1.0
    """Noise that DDIM adds on the way, as a share of ancestral sampling's; 0 to 1."""
    dtype: DType = "float32"
    """Number format of the network. The narrow ones are faster on GPUs."""
    dry_run: bool = False
    """Say what would be done, and do nothing."""
    num_actors: int | None = None
    """Copies of the model that work side by side. By default as many as the GPUs hold; one a machine without GPUs."""
    gpus_per_actor: float = 1.0
    """Share of a GPU for each copy: 0.5 puts two on a GPU. Without meaning where there is no GPU."""
    wait_for_gpus: float = 0.0
    """Minutes to wait until the cluster's GPUs hold --num-actors, for clusters that grow; an autoscaler is asked."""
    batch_size: int | None = None
    """Samples drawn at once. By default 8 on a CPU; on a GPU as many as may fit, halved where they do not. The same
    number gives the same bytes."""
    compile: bool = False
    """Run the network through torch.compile: every actor begins half a minute to minutes later, and is then faster,
    which pays for long runs, mostly on GPUs."""
    shard_size: int = 1000
    """Samples in each Parquet file of the tables."""
    chunk_size: int = 64
    """Samples in a unit of work, which is what is lost when a machine dies."""
    real: str | None = None
    """Real images, annotated or not: says in quality.json how far the samples are from them."""
    inception: str | None = None
    """A TorchScript file of a network whose features --real is compared by, such as Inception. Default: the DDPM's
    own activations."""

    def __post_init__(self) -> None:
        check_least(self, num_samples=1, shard_size=1, chunk_size=1, num_actors=1, batch_size=1)
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"--seed must lie between 0 and {2**63 - 1}, got {self.seed}")
        check_actor_options(self.num_actors, self.gpus_per_actor, self.wait_for_gpus)
        check_model_id(self.expect_model_id)
        if self.inception and not self.real:
            raise ValueError("--inception is what --real images are compared by: give them too")

    def sampling(self) -> SamplingConfig:
        # Only DDIM has an eta: the other samplers' tables should not be apart by it.
        return SamplingConfig(sampler=self.sampler, steps=self.steps, eta=self.eta if self.sampler == "ddim" else 0.0)


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
