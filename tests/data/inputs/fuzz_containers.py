"""Tars and Parquet tables as a stranger may write them: images, or one error for the container, and nothing else.

    python -m tests.data.inputs.fuzz_containers --count 20000 --seed 1

Each file is looked into, and every image found in it is read, as the label job does it.
"""

from __future__ import annotations

import gzip
import io
import random
import tarfile
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ddpm_seg.data.inputs import sources
from ddpm_seg.data.inputs.container import UNCHOSEN
from ddpm_seg.data.inputs.members import Found, Place, look_into, read_places
from tests.fuzzing import Bounds, change_bytes, run_as_asked

LIMIT = 100_000  # bytes of an image
COUNT = 1_000


def fuzz(count: int, seed: int, folder: Path) -> Counter[str]:
    """What came of `count` changed files. Raises AssertionError for a fault, with the file that causes it beside."""
    bounds, said = Bounds(), Counter[str]()
    for number in range(count):
        draw = random.Random(f"{seed}-{number}")
        name, data = draw.choice([_tar, _tar, _packed, _parquet])(draw)
        path = folder / name
        path.write_bytes(change_bytes(data, draw) if draw.random() < 0.95 else data)
        told = bounds.keep(lambda path=path: _look_and_read(str(path)), folder)  # type: ignore[misc]
        assert not told.startswith("FAULT"), (told, seed, number)
        said[f"{name}: {told}"] += 1
    return said


def _look_and_read(uri: str) -> str:
    found = look_into(sources.info(uri), UNCHOSEN)
    names = [member.name for member in found.members]
    assert len(set(names)) == len(names), "a name came twice"
    assert "\n" not in found.fault
    assert found.members or found.fault, "neither an image nor an error"
    kinds = {_kind(one) for one in _read(found)}
    return "+".join(sorted({*kinds, *(["error"] if found.fault else [])}))


def _read(found: Found) -> list[bytes | Exception]:
    places = [Place(container=found.version, name=one.name, start=one.start, size=one.size) for one in found.members]
    readable = [place for place, member in zip(places, found.members, strict=True) if not member.fault]
    if not readable:
        return []
    try:
        read = list(read_places(readable, LIMIT))
    except ValueError as error:  # the job goes on behind the image at fault
        return [error]
    assert len(read) == len(readable), "an image is missing"
    for data, place in zip(read, readable, strict=True):
        assert isinstance(data, Exception) or not place.size or len(data) == place.size
        assert isinstance(data, Exception) or len(data) <= LIMIT
    return read


def _kind(read: bytes | Exception) -> str:
    return "read" if isinstance(read, bytes) else "unreadable"


def _tar(draw: random.Random) -> tuple[str, bytes]:
    buffer = io.BytesIO()
    kind = draw.choice([tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
    with tarfile.open(fileobj=buffer, mode="w", format=kind) as archive:
        for number in range(draw.randrange(1, 6)):
            for suffix in draw.sample(["jpg", "json", "seg.png", "txt"], draw.randrange(1, 4)):
                name = f"{'long/' * draw.choice([0, 0, 1, 30])}{number // draw.choice([1, 2]):04d}.{suffix}"
                if kind == tarfile.USTAR_FORMAT:
                    name = name[-90:].lstrip("/")
                entry = tarfile.TarInfo(name)
                entry.size = draw.choice([0, 1, 511, 700])
                if kind == tarfile.PAX_FORMAT and draw.random() < 0.3:
                    entry.pax_headers = {"comment": "x" * draw.randrange(900), "size": str(entry.size)}
                archive.addfile(entry, io.BytesIO(draw.randbytes(entry.size)))
    return "a.tar", buffer.getvalue()


def _packed(draw: random.Random) -> tuple[str, bytes]:
    return "a.tar.gz", gzip.compress(_tar(draw)[1], draw.choice([0, 1, 9]))


def _parquet(draw: random.Random) -> tuple[str, bytes]:
    images = [draw.choice([None, draw.randbytes(draw.randrange(600))]) for _ in range(draw.randrange(1, 9))]
    cells = [None if one is None else {"bytes": one, "path": None} for one in images]
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    table = pa.table({"image": pa.array(cells, kind), "caption": ["x"] * len(images)})
    buffer = io.BytesIO()
    pq.write_table(
        table, buffer, row_group_size=draw.choice([1, 3, 100]), compression=draw.choice(["none", "snappy", "zstd"])
    )
    return "a.parquet", buffer.getvalue()


if __name__ == "__main__":
    print(run_as_asked(fuzz, __doc__, count=COUNT))
