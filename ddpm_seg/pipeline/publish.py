"""Which chunks of a run are left, and the publication of each shard once its last chunk is there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import pyarrow as pa
import ray

from ddpm_seg.runs.commit import Derive, read_outcomes, settle_shard
from ddpm_seg.runs.layout import finished_chunks, published_shards
from ddpm_seg.runs.ledger import KnownRun

# Files of earlier attempts that are looked at side by side.
READERS = 16

Chunk = tuple[int, int, pa.Table]
"""Shard, chunk and its rows of the manifest."""


class Shards:
    """The shards of one run, from what earlier attempts left until all are published."""

    def __init__(self, run: KnownRun, derived: Mapping[str, Derive]) -> None:
        self._run, self._derived = run, derived
        self._sizes = run.manifest.shard_sizes()
        self._published, self._finished = published_shards(run.layout), finished_chunks(run.layout)
        self._open, self.images_left = Counter[int](), 0
        for shard, _, items in self.left():
            self._open[shard] += 1
            self.images_left += items.num_rows
        self._counts, self._waiting = Counter[str](), list[ray.ObjectRef]()

    def left(self) -> Iterator[Chunk]:
        """The chunks that earlier attempts did not finish, in order."""
        for shard, chunk, items in self._run.manifest.chunks():
            if shard not in self._published and (shard, chunk) not in self._finished:
                yield shard, chunk, items

    def take_over(self) -> Counter[str]:
        """Finishes what earlier attempts published, or nearly; the outcomes of all rows that they made."""
        layout = self._run.layout
        chunks = [layout.chunk(*each) for each in self._finished if each[0] not in self._published]
        with ThreadPoolExecutor(READERS) as pool:
            settled = list(pool.map(lambda shard: settle_shard(**self._work(shard)), sorted(self._published)))
            made = [*settled, *pool.map(_outcomes_of_chunk, chunks)]
        self._count(settled)
        for shard in self._sizes:
            if shard not in self._published and not self._open[shard]:
                self._publish(shard)
        return sum(map(Counter, made), Counter())

    def finished(self, shard: int) -> None:
        """One more chunk of `shard` is there. Raises what a publication failed of."""
        self._open[shard] -= 1
        if not self._open[shard]:
            self._publish(shard)
        if self._waiting:
            ready, self._waiting = ray.wait(self._waiting, num_returns=len(self._waiting), timeout=0)
            self._count(ray.get(ready))

    def outcomes(self) -> Counter[str]:
        """Of all rows of the run, once every shard is published."""
        self._count(ray.get(self._waiting))
        self._waiting = []
        return self._counts

    def _publish(self, shard: int) -> None:
        # In the cluster, as a shard's bytes may be many; without a CPU, as it mostly waits for storage.
        settle: Any = ray.remote(num_cpus=0)(cast(Any, settle_shard))
        self._waiting.append(settle.remote(**self._work(shard)))

    def _work(self, shard: int) -> dict[str, Any]:
        rows, chunks = self._sizes[shard]
        return {"layout": self._run.layout, "shard": shard, "chunks": chunks, "rows": rows, "derived": self._derived}

    def _count(self, results: list[dict[str, int]]) -> None:
        for counts in results:
            self._counts.update(counts)


def _outcomes_of_chunk(uri: str) -> dict[str, int]:
    try:
        return read_outcomes(uri)
    except FileNotFoundError:  # a worker that outlived its driver has just published the shard
        return {}
