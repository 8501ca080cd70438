from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ddpm_seg import storage
from ddpm_seg.runs.parquet import decode, encode, open_parquet
from ddpm_seg.storage import remote


def rows(start: int, end: int) -> pa.Table:
    numbers = range(start, end)
    schema = pa.schema([("number", pa.int64()), ("picture", pa.binary())], metadata={"made": "here"})
    return pa.table({"number": list(numbers), "picture": [bytes([n % 256]) * n for n in numbers]}, schema=schema)


@pytest.mark.parametrize("columns", [None, ["number"]])
def test_what_was_encoded_is_decoded(columns: list[str] | None) -> None:
    table = rows(0, 600)
    assert decode(encode(table), columns).equals(table if columns is None else table.select(columns))
    assert decode(encode(table)).schema.metadata[b"made"] == b"here"


def test_bytes_depend_on_the_rows_and_not_on_how_they_were_put_together() -> None:
    assert encode(pa.concat_tables([rows(0, 7), rows(7, 300), rows(300, 600)])) == encode(rows(0, 600))


def test_a_row_group_is_small_enough_to_read_one_mask(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(encode(rows(0, 600)))
    assert [pq.read_metadata(tmp_path / "a").row_group(i).num_rows for i in range(3)] == [256, 256, 88]


@pytest.mark.parametrize("kind", ["local", "s3"])
def test_columns_are_read_without_the_others(
    kind: str, tmp_path: Path, s3: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = storage.join(str(tmp_path) if kind == "local" else s3(), "a.parquet")
    generator = random.Random(0)
    noise = [generator.randbytes(10_000) for _ in range(100)]
    storage.write_bytes(uri, encode(pa.table({"number": list(range(100)), "picture": noise})))
    travelled = []
    read_range = remote.read_range
    monkeypatch.setattr(remote, "read_range", lambda *a: travelled.append(a[2] - a[1]) or read_range(*a))
    with open_parquet(uri) as file:
        assert file.read(columns=["number"])["number"].to_pylist() == list(range(100))
    assert (kind == "local") == (sum(travelled) == 0)
    assert sum(travelled) < 200_000 < (storage.info(uri).size_bytes or 0)
