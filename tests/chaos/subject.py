"""The jobs that are disturbed: how each is started, and which tables it makes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

JobName = Literal["label", "label-tar", "generate", "generate-gan"]
"""label-tar is jobs.label with tars and a Parquet table as its input. The last one is jobs.generate with a StyleGAN2,
which gives image and features in one pass."""

SHARDS_OF_A_SHORT_RUN, CHUNK_OF_A_SHORT_RUN = 3, 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Subject:
    """Describes a job. In flags, {prefix} is the place of pictures and models."""

    name: JobName
    images: int
    shard_size: int
    chunk_size: int
    """Used as batch size too: rounding depends on batches, so every attempt uses the same size."""
    table: str
    derived: str
    flags: tuple[str, ...]
    count_flag: str
    """The flag that limits the job to the first images; takes their number."""
    other_images: tuple[str, ...]
    """Flags that make it work on as many other images with the same configuration."""
    other_options: tuple[tuple[str, ...], ...]
    """Sets of flags that each make other rows, in separate tables or of other images."""

    @property
    def module(self) -> str:
        return f"jobs.{self.name.partition('-')[0]}"

    def short(self, images: int) -> Subject:
        """The same job with few images, in smaller chunks."""
        chunks = -(-images // CHUNK_OF_A_SHORT_RUN)
        shard_size = -(-chunks // SHARDS_OF_A_SHORT_RUN) * CHUNK_OF_A_SHORT_RUN
        return replace(self, images=images, shard_size=shard_size, chunk_size=CHUNK_OF_A_SHORT_RUN)

    @property
    def first_night(self) -> int:
        """Number of images for an earlier run: some whole shards."""
        return self.images // self.shard_size // 2 * self.shard_size or self.shard_size

    def arguments(self, prefix: str, output: str, flags: tuple[str, ...]) -> list[str]:
        """Arguments for `python -m jobs.<name>`. If a flag appears twice, the last one counts."""
        sizes = [
            f"--shard-size={self.shard_size}",
            f"--chunk-size={self.chunk_size}",
            f"--batch-size={self.chunk_size}",
        ]
        own = [f"--model={prefix}/model", f"--output={output}"]
        given = [flag.format(prefix=prefix, images=self.images) for flag in (*self.flags, *flags)]
        return [*own, *sizes, *given]


SUBJECTS: dict[JobName, Subject] = {
    "label": Subject(
        name="label",
        images=1000,
        shard_size=150,
        chunk_size=16,
        table="labels",
        derived="class_stats",
        flags=("--input={prefix}/in",),
        count_flag="--limit={}",
        other_images=("--input={prefix}/in-other",),
        other_options=(("--fit=stretch",), ("--model={prefix}/model-other",)),
    ),
    # All batches are full, so that the journal counts exactly the samples.
    "generate": Subject(
        name="generate",
        images=960,
        shard_size=160,
        chunk_size=16,
        table="samples",
        derived="sample_class_stats",
        flags=("--num-samples={images}", "--steps=2"),
        count_flag="--num-samples={}",
        other_images=("--seed=1",),
        other_options=(("--sampler=ddpm",), ("--model={prefix}/model-other",), ("--seed=1",)),
    ),
}
SUBJECTS["label-tar"] = replace(SUBJECTS["label"], name="label-tar")
# A StyleGAN2 has neither a sampler nor steps.
SUBJECTS["generate-gan"] = replace(
    SUBJECTS["generate"],
    name="generate-gan",
    flags=("--num-samples={images}",),
    other_options=(("--dtype=bfloat16",), ("--model={prefix}/model-other",), ("--seed=1",)),
)
