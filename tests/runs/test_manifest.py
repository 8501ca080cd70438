from __future__ import annotations

import random
from datetime import datetime, timezone
from pathlib import Path

import pyarrow as pa
import pytest

from ddpm_seg import storage
from ddpm_seg.runs.layout import RunLayout
from ddpm_seg.runs.manifest import (
    Manifest,
    RunInfo,
    chunk_size_for,
    create_manifest,
    image_id,
    inputs_table,
    plan,
    read_manifest,
    stored_uri,
)
from ddpm_seg.runs.parquet import encode

NOW = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=timezone.utc)


def files(count: int) -> list[storage.FileInfo]:
    return [storage.FileInfo(uri=f"s3://b/{i:05}.png", size_bytes=i, etag=f"e{i}", modified=NOW) for i in range(count)]


def manifest(count: int, shard_size: int, chunk_size: int) -> Manifest:
    info = RunInfo(run_id="run-000003", config_hash="c", created_at=NOW, config={"fit": "letterbox"})
    return Manifest(info=info, items=plan(inputs_table(files(count)), shard_size, chunk_size))


@pytest.mark.parametrize(
    ("count", "shard_size", "chunk_size"), [(0, 10, 3), (1, 1, 1), (10, 10, 3), (25, 10, 4), (7, 100, 256), (30, 10, 5)]
)
def test_every_input_is_in_one_chunk_in_order(count: int, shard_size: int, chunk_size: int) -> None:
    planned = manifest(count, shard_size, chunk_size)
    chunks = list(planned.chunks())
    assert [uri for _, _, rows in chunks for uri in rows["uri"].to_pylist()] == [file.uri for file in files(count)]
    assert len({(shard, chunk) for shard, chunk, _ in chunks}) == len(chunks)
    assert all(1 <= rows.num_rows <= chunk_size for _, _, rows in chunks)
    sizes = planned.shard_sizes()
    assert list(sizes) == list(range(-(-count // shard_size)))
    assert all(rows == shard_size for shard, (rows, _) in sizes.items() if shard + 1 < len(sizes))
    for shard, (rows, number) in sizes.items():
        mine = [(chunk, part.num_rows) for of_shard, chunk, part in chunks if of_shard == shard]
        assert [chunk for chunk, _ in mine] == list(range(number))
        assert sum(part for _, part in mine) == rows


def test_the_plan_does_not_depend_on_the_order_of_the_listing() -> None:
    shuffled = files(50)
    random.Random(0).shuffle(shuffled)
    assert inputs_table(shuffled).equals(inputs_table(files(50)))


def test_an_actor_has_some_twenty_chunks() -> None:
    assert chunk_size_for(1_000_000, 256, 8) == 256
    for items, actors in [(32, 1), (1000, 4), (5, 2), (4096, 3)]:
        size = chunk_size_for(items, 256, actors)
        assert 1 <= size <= 256
        assert size == 1 or items / size / actors > 10


def test_a_chunk_is_rounded_up_so_that_none_is_left_over() -> None:
    assert [chunk_size_for(items, 256, 1) for items in (20, 21, 40, 41)] == [1, 2, 2, 3]


def test_secrets_stay_out_of_the_table_and_hostile_names_fit_in() -> None:
    table = inputs_table(
        [
            storage.FileInfo(uri="https://user:pw@host/a.png?X-Amz-Signature=secret"),
            storage.FileInfo(uri="/tmp/\udcff.png"),
        ]
    )
    text = str(table.to_pylist())
    assert "secret" not in text
    assert "pw@" not in text
    assert stored_uri("/tmp/\udcff.png") in table["uri"].to_pylist()
    encode(table)


def test_inputs_that_would_be_one_are_refused() -> None:
    with pytest.raises(ValueError, match="differ only in their query") as error:
        inputs_table([storage.FileInfo(uri=f"https://host/image?token={token}") for token in ("abc", "xyz")])
    assert "xyz" not in str(error.value)


def test_image_ids_are_stable() -> None:
    assert (
        image_id("s3://bucket/a.png") == "43901e0de0c6674541f893c7a5e5c5e4"
    )  # printf s3://bucket/a.png | b2sum -l 128
    assert len({image_id(file.uri) for file in files(1000)}) == 1000


def test_a_manifest_comes_back_and_never_changes(tmp_path: Path) -> None:
    layout = RunLayout(output=str(tmp_path), table="labels", config_hash="c", run_id="run-000003")
    first = manifest(25, 10, 4)
    assert create_manifest(layout, first)
    before = Path(layout.manifest).read_bytes()
    assert not create_manifest(layout, manifest(3, 1, 1))
    assert Path(layout.manifest).read_bytes() == before
    found = read_manifest(layout.manifest)
    assert found.info == first.info
    assert found.items.equals(first.items)


def test_a_foreign_file_is_no_manifest(tmp_path: Path) -> None:
    path = tmp_path / "manifest.parquet"
    path.write_bytes(encode(pa.table({"a": [1]})))
    with pytest.raises(ValueError, match="not a manifest"):
        read_manifest(str(path))
