"""Keeps track of a run's remaining chunks, and publishes each shard once its last chunk is done."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
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


@dataclass(kw_only=True, slots=True)
class _ShardState:
    left: set[int]
    """Chunks that are not done."""
    counted: set[int] = field(default_factory=set)
    """Chunks that were reported as finished; some may have to be made again."""


class Shards:
    """The shards of one run: takes over what earlier attempts left, and publishes shards until none is left."""

    def __init__(self, contents: Contents, run: PlannedRun, derived: Mapping[str, Derive]) -> None:
        self._contents, self._run, self._derived = contents, run, derived
        self._sizes = contents.chunk_sizes()
        # Only of shards under way: a long run has millions of chunks. In other shards, all or none are left.
        self._under_way: dict[int, _ShardState] = {}
        self._settled: set[int] = set()
        self._outcomes = Counter[str]()
        self._times = Counter[int]()
        self._waiting: dict[ray.ObjectRef[Any], int] = {}

    def left(self) -> Iterator[Chunk]:
        """The chunks that are not done, in order."""
        for shard in self._sizes:
            for chunk in sorted(self._left_of(shard)):
                yield shard, chunk, self._contents.items(shard, chunk)

    def images_left(self) -> int:
        return sum(sizes[chunk] for shard, sizes in self._sizes.items() for chunk in self._left_of(shard))

    def are_left(self) -> bool:
        """Whether any chunk is left, empty ones too."""
        return any(len(self._left_of(shard)) for shard in self._sizes)

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
            open_shards = self._sizes.keys() - self._settled
            chunks = [(shard, chunk) for shard, chunk in chunks if shard in open_shards]
            looks = pool.map(lambda each: look_at_chunk(self._plan(each[0]), each[1]), chunks)
            for (shard, chunk), outcomes in zip(chunks, looks, strict=True):
                if outcomes is not None:
                    made.update(outcomes)
                    state = self._state(shard)
                    state.left.discard(chunk)
                    state.counted.add(chunk)
        made.update(self.outcomes())
        for shard in self._sizes:
            if shard not in self._settled and not self._left_of(shard):
                self._publish(shard)
        self.wait()
        return made

    def finished(self, shard: int, chunk: int) -> bool:
        """Counts a finished chunk and starts publishing its shard when that is complete.

        Returns False if the chunk was counted before. Re-raises the error of any failed publication.
        """
        new = False
        if shard not in self._settled:
            state = self._state(shard)
            new = chunk not in state.counted
            state.counted.add(chunk)
            state.left.discard(chunk)
            if not state.left and shard not in self._waiting.values():
                self._publish(shard)
        if self._waiting:
            ready, _ = ray.wait(list(self._waiting), num_returns=len(self._waiting), timeout=0)
            self._note_ready(ready)
        return new

    def wait(self) -> None:
        """Waits until all started publications have ended. Chunks that did not match the plan are to do again."""
        self._note_ready(list(self._waiting))

    def outcomes(self) -> Counter[str]:
        """Row counts by outcome, over all published rows."""
        return Counter(self._outcomes)

    def _left_of(self, shard: int) -> Collection[int]:
        if shard in self._settled:
            return ()
        state = self._under_way.get(shard)
        return range(len(self._sizes[shard])) if state is None else state.left

    def _state(self, shard: int) -> _ShardState:
        if shard not in self._under_way:
            self._under_way[shard] = _ShardState(left=set(range(len(self._sizes[shard]))))
        return self._under_way[shard]

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
        if not settled.redo:
            self._outcomes.update(settled.outcomes)
            self._settled.add(shard)
            self._under_way.pop(shard, None)
            return
        self._state(shard).left = set(settled.redo)
        self._times[shard] += 1
        if self._times[shard] > MOST_TIMES:
            raise StageError(
                f"the chunks of shard-{shard:05d} of {self._run.layout.run_id} were made {MOST_TIMES} times and still "
                "do not match the manifest (see the log); does another process write to this output?"
            )

    def _plan(self, shard: int) -> ShardPlan:
        return self._contents.plan(shard, self._run)
