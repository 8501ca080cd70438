from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ddpm_seg import storage
from ddpm_seg.data.schema import labels_schema
from ddpm_seg.runs import checksums
from ddpm_seg.runs.parquet import DamagedFileError, decode, encode, open_parquet, read_table
from tests.runs.nightly_runs import labelled
from tests.tiny_bundle import TASK


@pytest.fixture(scope="module")
def table() -> pa.Table:
    """Labels of 300 images, in two row groups, with masks that do not compress."""
    generator = np.random.default_rng(0)
    rows = [
        {
            "image_id": generator.bytes(16).hex(),
            "uri": f"s3://bucket/photos/{number:05}.png",
            "status": "ok",
            "run_id": "run-000001",
            **labelled(number, float(generator.random()), **dict.fromkeys(TASK.class_names, 0.5)),
            "mask": {"bytes": generator.bytes(200), "path": None},
        }
        for number in range(300)
    ]
    return decode(encode(pa.Table.from_pylist(rows, schema=labels_schema(TASK))))


def without_checksums(table: pa.Table) -> bytes:
    """As releases before wrote it."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", row_group_size=256)
    return sink.getvalue().to_pybytes()


def flipped(data: bytes, generator: random.Random) -> bytes:
    spoilt = bytearray(data)
    spoilt[generator.randrange(len(data))] ^= 1 << generator.randrange(8)
    return bytes(spoilt)


def read_in_parts(uri: str) -> pa.Table:
    with open_parquet(uri) as file:
        return file.read()


@pytest.mark.parametrize("read", [read_table, read_in_parts])
def test_no_flipped_bit_gives_another_table(read: Callable[[str], pa.Table], table: pa.Table, tmp_path: Path) -> None:
    data, path, generator, found = encode(table), tmp_path / "shard.parquet", random.Random(1), 0
    for _ in range(600):
        path.write_bytes(flipped(data, generator))
        try:
            assert read(str(path)).equals(table, check_metadata=True)
        except DamagedFileError:
            found += 1
    # Read in parts, a bit of the digest over the whole file tells nothing and hurts nothing.
    assert found >= (600 if read is read_table else 500)


def test_files_without_checksums_are_read(table: pa.Table, tmp_path: Path) -> None:
    path = tmp_path / "shard.parquet"
    path.write_bytes(without_checksums(table))
    for read in (read_table, read_in_parts):
        assert read(str(path)).equals(table)


def test_other_programs_read_what_has_checksums(table: pa.Table, tmp_path: Path) -> None:
    path = tmp_path / "shard.parquet"
    path.write_bytes(encode(table))
    assert pq.read_table(path).equals(table)
    assert len(pd.read_parquet(path)) == 300
    query = f"select count(*), count(mask.bytes), sum(len(classes)), max(uri) from '{path}'"
    classes = 300 * len(TASK.class_names)
    assert duckdb.sql(query).fetchall() == [(300, 300, classes, "s3://bucket/photos/00299.png")]


@pytest.mark.parametrize("tail", [16, 1024, 65536])
def test_a_footer_of_any_size_is_compared(
    tail: int, table: pa.Table, s3: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checksums, "_TAIL", tail)
    uri, data = storage.join(s3(), "shard.parquet"), encode(table)
    storage.write_bytes(uri, data)
    assert read_in_parts(uri).equals(table)
    place = data.rindex(b"huggingface")  # in the footer: what other programs make of the columns
    storage.write_bytes(uri, data[:place] + b"H" + data[place + 1 :])
    with pytest.raises(DamagedFileError, match="its footer is damaged"):
        read_in_parts(uri)


@pytest.mark.parametrize("data", [b"", b"PAR1", b"PAR1" + b"\xff" * 8 + b"PAR1", b"<html>", bytes(70_000)])
def test_what_is_no_table_is_named(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "shard.parquet"
    path.write_bytes(data)
    for read in (read_table, read_in_parts):
        with pytest.raises(DamagedFileError, match=r"shard\.parquet cannot be read: "):
            read(str(path))


def test_an_empty_table_has_checksums_too(table: pa.Table) -> None:
    empty = table.slice(0, 0)
    data = encode(empty)
    assert checksums.check_whole(data)
    assert decode(data).equals(empty)
