from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from ddpm_seg import storage
from ddpm_seg.runs.commit import delete_chunks, first_one_stays, settle_shard, write_chunk
from ddpm_seg.runs.layout import RunLayout, finished_chunks, published_shards
from ddpm_seg.runs.tables import decode, encode


def rows(*names: str, error: str | None = None) -> pa.Table:
    return pa.table(
        {
            "name": pa.array(names, pa.string()),
            "status": pa.array(["error" if error else "ok"] * len(names), pa.string()),
            "error_type": pa.array([error] * len(names), pa.string()),
        }
    ).replace_schema_metadata({"key": "value"})


@pytest.fixture
def layout(tmp_path: Path) -> RunLayout:
    return RunLayout(output=str(tmp_path), table="labels", config_hash="c", run_id="run-000012")


def settle(layout: RunLayout, *, chunks: int = 2, count: int = 3) -> dict[str, int]:
    return settle_shard(layout, 42, chunks=chunks, rows=count, derived={"names": lambda table: table.select(["name"])})


def write_both(layout: RunLayout) -> None:
    write_chunk(layout, 42, 1, rows("c", error="empty"))
    write_chunk(layout, 42, 0, rows("a", "b"))


def test_a_store_that_overwrites_is_found_out(
    tmp_path: Path, s3: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for output in (str(tmp_path), s3(), "memory://probed"):
        assert first_one_stays(output)
        assert list(storage.list_files(output)) == []
    put = MemoryFileSystem.pipe_file  # with a store behind it that knows nothing of conditions
    monkeypatch.setattr(MemoryFileSystem, "pipe_file", lambda self, path, value, mode: put(self, path, value))
    assert not first_one_stays("memory://probed")
    assert list(storage.list_files("memory://probed")) == []


def test_names_are_those_of_the_design(layout: RunLayout, tmp_path: Path) -> None:
    write_both(layout)
    settle(layout)
    write_chunk(layout, 43, 7, rows("x"))
    found = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.parquet")}
    assert found == {
        "labels/config=c/run=run-000012/shard-00042.parquet",
        "names/config=c/run=run-000012/shard-00042.parquet",
        "_chunks/run=run-000012/shard-00043/chunk-0007.parquet",
    }
    assert published_shards(layout) == published_shards(layout, "names") == {42}
    assert finished_chunks(layout) == {(43, 7)}


def test_chunks_become_one_shard_in_order(layout: RunLayout) -> None:
    write_both(layout)
    assert finished_chunks(layout) == {(42, 0), (42, 1)}
    assert settle(layout) == {"empty": 1, "ok": 2}
    table = decode(storage.read_bytes(layout.shard(42)))
    assert table["name"].to_pylist() == ["a", "b", "c"]
    assert table.schema.metadata[b"key"] == b"value"
    assert decode(storage.read_bytes(layout.shard(42, "names"))).column_names == ["name"]
    assert finished_chunks(layout) == set()


def test_a_repeated_publish_has_the_same_bytes(layout: RunLayout, tmp_path: Path) -> None:
    write_both(layout)
    settle(layout)
    other = RunLayout(output=str(tmp_path / "again"), table="labels", config_hash="c", run_id="run-000012")
    # The same rows, from differently cut chunks.
    write_chunk(other, 42, 0, pa.concat_tables([rows("a"), rows("b")]))
    write_chunk(other, 42, 1, rows("c", error="empty"))
    settle(other)
    for table in ("labels", "names"):
        assert storage.read_bytes(layout.shard(42, table)) == storage.read_bytes(other.shard(42, table))


def test_the_first_published_shard_stays(layout: RunLayout) -> None:
    storage.create_bytes(layout.shard(42), encode(rows("first")))
    write_both(layout)  # a stray worker's
    assert settle(layout) == {"ok": 1}
    assert decode(storage.read_bytes(layout.shard(42)))["name"].to_pylist() == ["first"]
    assert decode(storage.read_bytes(layout.shard(42, "names")))["name"].to_pylist() == ["first"]
    assert finished_chunks(layout) == set()


def test_the_first_chunk_stays(layout: RunLayout) -> None:
    write_chunk(layout, 42, 0, rows("first"))
    write_chunk(layout, 42, 0, rows("second"))
    assert decode(storage.read_bytes(layout.chunk(42, 0)))["name"].to_pylist() == ["first"]


def test_a_missing_derived_table_is_made_again(layout: RunLayout) -> None:
    write_both(layout)
    settle(layout)
    before = storage.read_bytes(layout.shard(42, "names"))
    storage.delete(layout.shard(42, "names"))
    assert settle(layout) == {"empty": 1, "ok": 2}
    assert storage.read_bytes(layout.shard(42, "names")) == before


def test_a_resume_reads_no_mask(layout: RunLayout, monkeypatch: pytest.MonkeyPatch) -> None:
    write_both(layout)
    settle(layout)
    monkeypatch.setattr(storage, "read_bytes", lambda uri: pytest.fail("a whole file was asked for"))
    assert settle(layout) == {"empty": 1, "ok": 2}


def test_a_stray_worker_disturbs_nobody(layout: RunLayout) -> None:
    """It goes on writing chunks while they are merged, deleted, and looked at again."""
    ended = threading.Event()

    def write() -> None:
        while not ended.is_set():
            for chunk in (0, 1):
                with suppress(OSError):  # the folder goes away under its hands
                    write_chunk(layout, 42, chunk, rows("stray"))

    write_both(layout)
    strays = [threading.Thread(target=write) for _ in range(4)]
    settle(layout)
    published = storage.read_bytes(layout.shard(42))
    for stray in strays:
        stray.start()
    try:
        for _ in range(50):
            assert settle(layout) == {"empty": 1, "ok": 2}
    finally:
        ended.set()
        for stray in strays:
            stray.join()
    assert storage.read_bytes(layout.shard(42)) == published
    delete_chunks(layout.chunks)
    assert finished_chunks(layout) == set()


def test_nothing_is_published_short(layout: RunLayout) -> None:
    write_chunk(layout, 42, 0, rows("a", "b"))
    with pytest.raises(FileNotFoundError):
        settle(layout)
    write_chunk(layout, 42, 1, rows())
    with pytest.raises(ValueError, match="2 rows in its chunks where the manifest has 3"):
        settle(layout)
    assert published_shards(layout) == set()
