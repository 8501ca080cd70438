"""Reads what the processes of a job did to the store (written by `hooks/sitecustomize.py`), and what a fault cost."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Set
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

_CHUNK = re.compile(r"/_chunks/run=[^/]+/shard-(\d+)/chunk-(\d+)\.parquet$")


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """`subject` is the URI of a call to `storage`; for the call "segment", the number of images."""

    time: float
    pid: int
    call: str
    when: str
    subject: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """Chunks of which an image was fetched again, and those of them that had already been written."""

    begun_again: int
    done_again: int


def read_journal(path: Path) -> list[Event]:
    """The events in the order in which they were written; none if there is no journal."""
    if not path.exists():
        return []
    # The last line may be half written.
    return [Event(**json.loads(line)) for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]


def chunks_of_run(events: Iterable[Event], output: str) -> list[tuple[int, int]]:
    """(shard, chunk) of every chunk that was written, in order."""
    return sorted(_written(events, output))


def chunks_written(events: Iterable[Event], output: str) -> int:
    """The chunks whose file exists, according to the journal."""
    return len(_written(events, output))


def images_segmented(events: Iterable[Event]) -> int:
    """Number of images that went through the network, counting repetitions."""
    return sum(int(event.subject) for event in events if event.call == "segment")


def cost(events: list[Event], manifest: pa.Table, output: str, *, drivers: Set[int]) -> Cost:
    """Work done more than once in the run of `manifest` (columns uri, shard, chunk).

    `drivers` are the jobs' own processes, which read pictures for the report. Of containers, it is not known whether a
    chunk that was read again had been written.
    """
    if "unit" in manifest.column_names:
        reads = Counter(event.subject for event in events if event.call == "read_places" and event.pid not in drivers)
        return Cost(begun_again=sum(count - 1 for count in reads.values()), done_again=0)
    uris, shards, chunks = (manifest[name].to_pylist() for name in ("uri", "shard", "chunk"))
    chunk_of = dict(zip(uris, zip(shards, chunks, strict=True), strict=True))
    written = _written(events, output)
    fetched: defaultdict[tuple[int, int], Counter[str]] = defaultdict(Counter)
    done_again = set()
    for event in events:
        if (
            event.call != "read_bytes"
            or event.when != "before"
            or event.pid in drivers
            or event.subject not in chunk_of
        ):
            continue
        chunk = chunk_of[event.subject]
        fetched[chunk][event.subject] += 1
        if event.time > written.get(chunk, float("inf")):
            done_again.add(chunk)
    begun_again = sum(max(counts.values()) - 1 for counts in fetched.values())
    return Cost(begun_again=begun_again, done_again=len(done_again))


def _written(events: Iterable[Event], output: str) -> dict[tuple[int, int], float]:
    """The time when each chunk's file first existed, by (shard, chunk)."""
    times: dict[tuple[int, int], float] = {}
    for event in events:
        if event.call == "create_bytes" and event.when == "after" and event.subject.startswith(f"{output}/"):
            match = _CHUNK.search(event.subject)
            if match:
                times.setdefault((int(match[1]), int(match[2])), event.time)
    return times
