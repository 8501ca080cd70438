"""The jobs that are disturbed: how each is started, and which tables it makes."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Literal

JobName = Literal["label", "generate"]

CHUNK_SIZE = 16
# Batches are what rounding depends on: one size, on every attempt.
BATCH_SIZE = 16


@dataclass(frozen=True, kw_only=True, slots=True)
class Subject:
    name: JobName
    images: int
    shard_size: int
    table: str
    derived: str
    flags: tuple[str, ...]
    """{prefix} is where pictures and model are."""

    def command(self, prefix: str, output: str) -> list[str]:
        own = [flag.format(prefix=prefix) for flag in self.flags]
        sizes = [f"--shard-size={self.shard_size}", f"--chunk-size={CHUNK_SIZE}", f"--batch-size={BATCH_SIZE}"]
        start = [sys.executable, "-m", f"jobs.{self.name}", f"--model={prefix}/model", f"--output={output}"]
        return [*start, *own, *sizes]


SUBJECTS: dict[JobName, Subject] = {
    "label": Subject(
        name="label",
        images=1000,
        shard_size=150,
        table="labels",
        derived="class_stats",
        flags=("--input={prefix}/in",),
    ),
    # All batches are full ones, so that the images of the network's calls are the samples.
    "generate": Subject(
        name="generate",
        images=960,
        shard_size=160,
        table="samples",
        derived="sample_class_stats",
        flags=("--num-samples=960", "--steps=2"),
    ),
}
