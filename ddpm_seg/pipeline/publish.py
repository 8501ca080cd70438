"""Keeps track of a run's remaining chunks, and publishes each shard once its last chunk is done."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import pyarrow as pa
import ray

from ddpm_seg.errors import StageError
from ddpm_seg.runs.commit import Derive, Settled, ShardPlan, look_at_chunk, settle_shard
from ddpm_seg.runs.contents import Contents
from ddpm_seg.runs.layout import published_shards
from ddpm_seg.runs.planned import PlannedRun

# Files of earlier attempts that are checked in parallel.
READERS = 16

# How often the chunks of a shard are made if they do not match the plan. After that, the stages or another process must
# be making them wrong.
MOST_TIMES = 3

Chunk = tuple[int, int, pa.Table]
"""Shard number, chunk number, and the chunk's items (`Contents.items`)."""


class Shards:
    """The shards of one run: takes over what earlier attempts left, and publishes shards until none is left."""

    def __init__(self, contents: Contents, run: PlannedRun, derived: Mapping[str, Derive]) -> None:
        self._contents, self._run, self._derived = contents, run, derived
        self._sizes = contents.chunk_sizes()
        self._left = {shard: set(range(len(sizes))) for shard, sizes in self._sizes.items()}
        self._counted: set[tuple[int, int]] = set()
        self._settled: dict[int, Counter[str]] = {}
        self._times = Counter[int]()
        self._waiting: dict[ray.ObjectRef[Any], int] = {}

    def left(self) -> Iterator[Chunk]:
        """The chunks that are not done, in order."""
        for shard, chunks in self._left.items():
            for chunk in sorted(chunks):
                yield shard, chunk, self._contents.items(shard, chunk)

    def images_left(self) -> int:
        return sum(self._sizes[shard][chunk] for shard, left in self._left.items() for chunk in left)

    def are_left(self) -> bool:
        """Whether any chunk is left, empty ones too."""
        return any(self._left.values())

    def take_over(self) -> Counter[str]:
        """Takes over shards and chunks of earlier attempts, and publishes shards whose chunks are complete.

        Returns the outcomes of all rows that earlier attempts made.
        """
        published = sorted(published_shards(self._run.layout) & self._sizes.keys())
        chunks = [each for each in sorted(self._run.finished_chunks()) if each[1] < len(self._sizes.get(each[0], ()))]
        made = Counter[str]()
        with ThreadPoolExecutor(READERS) as pool:
            for shard, settled in zip(published, pool.map(self._settle, published), strict=True):
                self._note(shard, settled)
            open_shards = self._sizes.keys() - self._settled.keys()
            chunks = [(shard, chunk) for shard, chunk in chunks if shard in open_shards]
            looks = pool.map(lambda each: look_at_chunk(self._plan(each[0]), each[1]), chunks)
            for (shard, chunk), outcomes in zip(chunks, looks, strict=True):
                if outcomes is not None:
                    made.update(outcomes)
                    self._left[shard].discard(chunk)
                    self._counted.add((shard, chunk))
        made.update(self.outcomes())
        for shard in self._sizes:
            if shard not in self._settled and not self._left[shard]:
                self._publish(shard)
        self.wait()
        return made

    def finished(self, shard: int, chunk: int) -> bool:
        """Counts a finished chunk and starts publishing its shard when that is complete.

        Returns False if the chunk was counted before. Re-raises the error of any failed publication.
        """
        self._left[shard].discard(chunk)
        if not self._left[shard]:
            self._publish(shard)
        if self._waiting:
            ready, _ = ray.wait(list(self._waiting), num_returns=len(self._waiting), timeout=0)
            self._note_ready(ready)
        new = (shard, chunk) not in self._counted
        self._counted.add((shard, chunk))
        return new

    def wait(self) -> None:
        """Waits until all started publications have ended. Chunks that did not match the plan are to do again."""
        self._note_ready(list(self._waiting))

    def outcomes(self) -> Counter[str]:
        """Row counts by outcome, over all published rows."""
        return sum(self._settled.values(), Counter[str]())

    def _publish(self, shard: int) -> None:
        # On the cluster, because a shard may be large; with num_cpus=0, because it mostly waits for storage.
        settle: Any = ray.remote(num_cpus=0)(cast(Any, settle_shard))
        self._waiting[settle.remote(self._plan(shard), self._derived)] = shard

    def _settle(self, shard: int) -> Settled:
        return settle_shard(self._plan(shard), self._derived)

    def _note_ready(self, ready: list[ray.ObjectRef[Any]]) -> None:
        for settled, reference in zip(ray.get(ready) if ready else (), ready, strict=True):
            self._note(self._waiting.pop(reference), settled)

    def _note(self, shard: int, settled: Settled) -> None:
        self._left[shard] = set(settled.redo)
        if not settled.redo:
            self._settled[shard] = Counter(settled.outcomes)
            return
        self._times[shard] += 1
        if self._times[shard] > MOST_TIMES:
            raise StageError(
                f"the chunks of shard-{shard:05d} of {self._run.layout.run_id} were made {MOST_TIMES} times and still "
                "do not match the manifest (see the log); does another process write to this output?"
            )

    def _plan(self, shard: int) -> ShardPlan:
        return self._contents.plan(shard, self._run)
