"""Lists made to use too much time or memory. What lists may contain is tested in test_listing.py."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ddpm_seg import spool
from ddpm_seg.data.inputs import list_files, lists
from ddpm_seg.data.inputs.listing import list_images

INVENTORY = pa.schema([("bucket", pa.string()), ("key", pa.string()), ("e_tag", pa.string()), ("size", pa.int64())])
MEMORY = """
import sys
from ddpm_seg.data.inputs.listing import list_images
from tests.memory import peak_memory
before = peak_memory()
try:
    found = list_images(sys.argv[1])
    print(sum(1 for _ in found.files), len(found.refused))
except ValueError as error:
    print(error)
print(peak_memory() - before)
"""


def cost(path: Path) -> tuple[str, int]:
    """What became of a list, and the bytes that reading it took, in a process of its own."""
    done = subprocess.run([sys.executable, "-c", MEMORY, str(path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    outcome, used = done.stdout.strip().rsplit("\n", 1)
    return outcome, int(used)


def test_one_long_name_many_times_is_held_once(tmp_path: Path) -> None:
    """Kilobytes of Parquet that are 20 GB of names."""
    names = pa.DictionaryArray.from_arrays(pa.array([0] * 20_000, pa.int32()), ["x" * 1_000_000])
    pq.write_table(pa.table({"uri": names}), tmp_path / "list.parquet", compression="zstd")
    assert (tmp_path / "list.parquet").stat().st_size < 200_000
    outcome, used = cost(tmp_path / "list.parquet")
    assert outcome == "0 1"
    assert used < 500_000_000


def test_pages_that_inflate_beyond_reason_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = pa.table({"uri": ["x" * 100_000 + str(number) for number in range(11)]})
    pq.write_table(table, tmp_path / "list.parquet", compression="zstd", use_dictionary=False)
    monkeypatch.setattr(lists, "MAX_BYTES", 1_000_000)
    assert (tmp_path / "list.parquet").stat().st_size < lists.MAX_BYTES
    with pytest.raises(ValueError, match=r"list\.parquet cannot .*: it has 1100\d+ bytes of names in one row group"):
        list_images(str(tmp_path / "list.parquet"))


@pytest.mark.parametrize("form", ["txt", "csv", "parquet"])
def test_more_than_a_job_can_plan_is_refused(form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / f"list.{form}"
    if form == "parquet":
        pq.write_table(pa.table({"uri": ["a.png"] * 20}), path)
    else:
        path.write_text("uri\n" + "a.png\n" * 20)
    assert len(list(list_images(str(path)).files)) == (2 if form == "txt" else 1)
    monkeypatch.setattr(lists, "MAX_ROWS" if form == "parquet" else "MAX_ENTRIES", 10)
    with pytest.raises(ValueError, match=r"split it"):
        list_images(str(path))
    monkeypatch.setattr(lists, "MAX_BYTES", 100)
    with pytest.raises((OSError, ValueError), match=r"larger than the limit of 100 bytes|split it"):
        list_images(str(path))


@pytest.mark.parametrize("seed", range(4))
def test_a_name_counts_as_on_its_last_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """Over several sorted stretches of the temporary file, and names of all kinds."""
    monkeypatch.setattr(list_files, "_ROWS", 7)
    monkeypatch.setattr(spool, "MERGED_ROWS", 3)
    draw = np.random.default_rng(seed)
    names = [
        f"s3://data/{name}.png" for name in ("ünï", "two words", "a", "b", "b-", "\u65e5", "\U0001f600", *range(20))
    ]
    rows = [(names[number], f"{place:032x}", place) for place, number in enumerate(draw.integers(0, len(names), 200))]
    uris, etags, sizes = (list(column) for column in zip(*rows, strict=True))
    pq.write_table(pa.table({"uri": uris, "etag": etags, "size": sizes}), tmp_path / "list.parquet", row_group_size=33)
    last = {uri: (etag, size) for uri, etag, size in rows}
    found = list(list_images(str(tmp_path / "list.parquet")).files)
    assert [(file.uri, (file.etag, file.size_bytes)) for file in found] == sorted(last.items())


def test_a_long_list_needs_little_memory(tmp_path: Path) -> None:
    """As objects of Python the second list's entries would take 68 MB more than the first's."""
    used = []
    for count in (100_000, 300_000):
        with pq.ParquetWriter(tmp_path / "list.parquet", INVENTORY) as writer:
            for first in range(0, count, 50_000):
                numbers = range(first, first + 50_000)
                keys = [f"photos/{number * 7919 % count:012}.jpg" for number in numbers]
                columns = ["data"] * 50_000, keys, [f"{number:032x}" for number in numbers], numbers
                writer.write_table(pa.table(list(columns), schema=INVENTORY))
        outcome, memory = cost(tmp_path / "list.parquet")
        assert outcome == f"{count} 0"
        used.append(memory)
    assert used[1] - used[0] < 40_000_000
