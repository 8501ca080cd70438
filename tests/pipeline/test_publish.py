"""Bookkeeping of a run's chunks: whatever order they come back in, every image is published and counted once."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest

from ddpm_seg import storage
from ddpm_seg.pipeline.publish import Shards
from ddpm_seg.runs.commit import write_chunk
from ddpm_seg.runs.contents import Contents
from ddpm_seg.runs.layout import published_shards
from ddpm_seg.runs.ledger import KnownRun
from tests.pipeline.stand_in import MODEL_ID, frozen_run, stamped, table

NAMES = [f"{number:02}" + (".error_x" if number % 7 == 0 else "") for number in range(23)]


class PublishedHere(Shards):
    """Publishes in this process, without Ray."""

    def _publish(self, shard: int) -> None:
        self._note(shard, self._settle(shard))


def write(run: KnownRun, shard: int, chunk: int, *, spoilt: bool = False) -> None:
    items = next(rows for one, other, rows in run.manifest.chunks() if (one, other) == (shard, chunk))
    names = [uri.removeprefix("/") for uri in items["uri"].to_pylist()]
    planned = run.planned(model_id=MODEL_ID)
    if spoilt:
        storage.write_bytes(planned.chunk(shard, chunk), b"not a table")
    else:
        write_chunk(planned, shard, chunk, stamped(table(names), run.info))


def shards_of(run: KnownRun) -> PublishedHere:
    return PublishedHere(Contents(run.manifest, run.planned()), run.planned(model_id=MODEL_ID), {})


@pytest.mark.parametrize("seed", range(12))
def test_every_image_is_published_and_counted_once(seed: int, tmp_path: Path) -> None:
    chance = random.Random(seed)
    run = frozen_run(tmp_path, NAMES, shard_size=8, chunk_size=3)
    sizes = Contents(run.manifest, run.planned()).chunk_sizes()
    everything = [(shard, chunk) for shard, chunks in sizes.items() for chunk in range(len(chunks))]
    for shard, chunk in chance.sample(everything, chance.randint(0, len(everything))):  # by an earlier attempt
        write(run, shard, chunk)

    shards = shards_of(run)
    made = shards.take_over().total()
    assert made + shards.images_left() == len(NAMES)
    rounds = 0
    while shards.are_left():
        left = [(shard, chunk) for shard, chunk, _ in shards.left()]
        rounds += 1
        again = chance.sample(left, chance.randint(0, len(left)))  # some come back twice
        for shard, chunk in chance.sample(left + again, len(left + again)):
            if not storage.exists(run.layout.shard(shard)):
                write(run, shard, chunk, spoilt=rounds == 1 and chance.random() < 0.2)
            if shards.finished(shard, chunk):
                made += sizes[shard][chunk]
    assert made == len(NAMES)
    errors = sum(".error_x" in name for name in NAMES)
    assert shards.outcomes() == Counter({"ok": len(NAMES) - errors, "error_x": errors})
    assert published_shards(run.layout) == sizes.keys()
    assert (shards.images_left(), list(shards.left())) == (0, [])
    assert shards_of(run).take_over() == shards.outcomes()


def test_a_long_run_keeps_nothing_of_published_shards(tmp_path: Path) -> None:
    run = frozen_run(tmp_path, NAMES, shard_size=8, chunk_size=3)
    shards = shards_of(run)
    for shard, chunk, _ in shards.left():
        write(run, shard, chunk)
        shards.finished(shard, chunk)
        assert len(shards._under_way) <= 1
    assert not shards._under_way
