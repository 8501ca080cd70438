"""The walk over tars, compared with Python's own on whole ones, and held to its word on damaged ones."""

from __future__ import annotations

import gzip
import io
import os
import random
import shutil
import subprocess
import tarfile
import tracemalloc
from pathlib import Path
from typing import BinaryIO

import pytest

from ddpm_seg.data.inputs.container import Member
from ddpm_seg.data.inputs.tar import BLOCK, MOST_EXTENSION, TarError, unpacked, walk
from ddpm_seg.data.inputs.tar_samples import images

FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}
HEADER_KINDS = [tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE]


def tar_of(files: dict[str, bytes] | list[tuple[str, bytes]], format: str = "pax") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=FORMATS[format]) as archive:
        for name, data in files.items() if isinstance(files, dict) else files:
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def random_tar(seed: int, format: str) -> bytes:
    draw = random.Random(seed)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=FORMATS[format]) as archive:
        for number in range(draw.randrange(12)):
            folder = "/".join("d" * draw.randrange(1, 60) for _ in range(draw.randrange(3)))
            name = "".join(draw.choice("ab. ä\u0301#%?") for _ in range(draw.randrange(1, 30))) + f"{number}.jpg"
            entry = tarfile.TarInfo(f"{folder}/{name}" if folder else name)
            if format == "ustar":
                entry.name = entry.name[-90:].encode("ascii", "replace").decode().lstrip("/") or "x"
            entry.type = draw.choice([tarfile.REGTYPE] * 4 + HEADER_KINDS)
            entry.linkname = "somewhere/else.jpg" if entry.type in (tarfile.SYMTYPE, tarfile.LNKTYPE) else ""
            entry.size = draw.choice([0, 1, 511, 512, 513, 3000]) if entry.isreg() else 0
            if format == "pax" and draw.random() < 0.3:
                entry.pax_headers = {"comment": "x" * draw.randrange(2000), "mtime": "1.5"}
            archive.addfile(entry, io.BytesIO(draw.randbytes(entry.size)))
    return buffer.getvalue()


def names(data: bytes, image_key: str | None = None) -> list[str]:
    return [member.name for member in images(walk(io.BytesIO(data)), image_key)]


def until_damage(file: BinaryIO) -> tuple[list[Member], str]:
    """The members that come, and what stopped the walk; empty for a whole tar."""
    found = []
    try:
        for member in walk(file):
            found.append(member)
    except TarError as error:
        return found, str(error)
    return found, ""


def contents(data: bytes, members: list[Member]) -> list[bytes]:
    return [data[member.start : member.start + member.size] for member in members]


@pytest.mark.parametrize("format", FORMATS)
def test_whole_tars_read_as_pythons_own_reader_reads_them(format: str) -> None:
    for seed in range(150):
        data = random_tar(seed, format)
        found = list(walk(io.BytesIO(data)))
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            expected = [entry for entry in archive if entry.isreg() or entry.issym() or entry.islnk()]
            assert [member.name for member in found] == [entry.name for entry in expected], seed
            assert [bool(member.fault) for member in found] == [not entry.isreg() for entry in expected]
            for member, entry in zip(found, expected, strict=True):
                if not member.fault:
                    assert (member.start, member.size) == (entry.offset_data, entry.size)


def test_a_walk_goes_on_from_the_end_of_any_member() -> None:
    for seed in range(50):
        for format in FORMATS:
            data = random_tar(seed, format)
            found = list(walk(io.BytesIO(data)))
            packed = gzip.compress(data, 1)
            assert list(walk(unpacked(io.BytesIO(packed)))) == found
            for place, member in enumerate(found):
                assert list(walk(io.BytesIO(data), member.end)) == found[place + 1 :]
            if found:
                assert list(walk(unpacked(io.BytesIO(packed)), found[0].end)) == found[1:]


def test_a_cut_is_an_error_after_the_members_before_it() -> None:
    data = tar_of({f"{number}.jpg": bytes([number]) * 700 for number in range(4)} | {"long" * 40 + ".jpg": b"x"})
    whole = list(walk(io.BytesIO(data)))
    end = whole[-1].end
    for size in range(0, end + 1, 64):
        for file in (io.BytesIO(data[:size]), unpacked(io.BytesIO(gzip.compress(data[:size], 0)))):
            found, error = until_damage(file)
            assert error
            assert found == [member for member in whole if member.end <= size], size
    torn = gzip.compress(data, 0)[: len(data) // 2]
    with pytest.raises(TarError, match="its gzipped data is damaged"):
        list(walk(unpacked(io.BytesIO(torn))))


def test_a_tar_in_a_member_stays_closed() -> None:
    inner = tar_of({"secret.jpg": b"inner"})
    data = tar_of({"evil.jpg": inner, "b.jpg": b"b"})
    assert names(data) == ["evil.jpg", "b.jpg"]
    assert contents(data, list(walk(io.BytesIO(data))))[0] == inner


def test_tars_one_after_the_other_are_one_and_rubbish_after_the_end_is_nobodys() -> None:
    one, two = tar_of({"1.jpg": b"1"}), tar_of({"2.jpg": b"2"})
    assert names(one + two) == ["1.jpg", "2.jpg"]
    assert names(one + b"rubbish" * 1000) == ["1.jpg"]
    assert names(one + bytes(10_000_000)) == ["1.jpg"]
    end = next(walk(io.BytesIO(one))).end
    with pytest.raises(TarError, match="invalid member header"):
        names(one[:end] + b"rubbish" * 1000)


@pytest.mark.skipif(shutil.which("tar") is None, reason="needs GNU tar")
@pytest.mark.parametrize("format", ["gnu", "pax", "oldgnu", "ustar", "v7"])
def test_what_gnu_tar_writes(format: str, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    (folder / "cats").mkdir(parents=True)
    (folder / "cats" / "1.jpg").write_bytes(b"one" * 1000)
    (folder / "2.jpg").symlink_to("cats/1.jpg")
    (folder / "3.jpg").hardlink_to(folder / "cats" / "1.jpg")
    with (folder / "sparse.jpg").open("wb") as file:
        for place in range(40):  # more pieces than a header holds
            file.seek(place * 100_000)
            file.write(b"piece")
        os.truncate(file.fileno(), 5_000_000)
    (folder / "z.jpg").write_bytes(b"last")
    order = ["./cats", "./2.jpg", "./3.jpg", "./sparse.jpg", "./z.jpg"]
    options = [f"--format={format}", *(["--sparse"] if format not in ("ustar", "v7") else [])]
    command = ["tar", "-cf", str(tmp_path / "a.tar"), *options, "-C", str(folder), *order]
    subprocess.run(command, check=True)
    data = (tmp_path / "a.tar").read_bytes()
    found = {member.name: member for member in walk(io.BytesIO(data))}
    assert list(found) == ["./cats/1.jpg", *order[1:]]
    assert "a link to 'cats/1.jpg'" in found["./2.jpg"].fault
    assert "a link to './cats/1.jpg'" in found["./3.jpg"].fault
    assert ("sparse" in found["./sparse.jpg"].fault) == (format not in ("ustar", "v7"))
    assert contents(data, [found["./cats/1.jpg"], found["./z.jpg"]]) == [b"one" * 1000, b"last"]


def header(name: str, size: int, kind: bytes) -> bytes:
    entry = tarfile.TarInfo(name)
    entry.size, entry.type = size, kind
    return entry.tobuf(tarfile.GNU_FORMAT)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (header("a.jpg", 1 << 50, tarfile.REGTYPE), "ends in the middle of a member"),
        (header("a.jpg", -5, tarfile.REGTYPE), "says that it has -5 bytes"),
        (header("x", 1 << 40, tarfile.XHDTYPE), "over the limit"),
        (header("x", MOST_EXTENSION + 1, tarfile.GNUTYPE_LONGNAME), "over the limit"),
        (header("x", -1, tarfile.XHDTYPE), "over the limit"),
        (header("x", 600, tarfile.XHDTYPE) + bytes(512), "middle of a member's headers"),
        (header("x", 20, tarfile.XHDTYPE) + b"999999 path=x\n".ljust(512, b"\0"), "PAX header that cannot be read"),
        (header("x", 20, tarfile.XHDTYPE) + b"0 path=x\n".ljust(512, b"\0"), "PAX header that cannot be read"),
        (
            header("x", 12, tarfile.XHDTYPE) + b"12 size=-99\n".ljust(512, b"\0") + header("a", 0, b"0"),
            "says that it has -1 bytes",
        ),
        (header("x", 10, tarfile.XHDTYPE) + b"10 path=x\n".ljust(512, b"\0") + bytes(1024), "a member's headers"),
        (tar_of({"a" * 9_000: b""}, "gnu"), "a name of 9000 characters"),
        (tar_of({"a" * 9_000: b""}, "pax"), "a name of 9000 characters"),
        (b"", "end mark"),
        (b"\xff" * 512, "invalid member header"),
    ],
)
def test_lies_are_named(data: bytes, message: str) -> None:
    with pytest.raises(TarError, match=message):
        list(walk(io.BytesIO(data)))


def test_mutated_tars_end_in_tar_error_or_members_within_the_file() -> None:
    draw = random.Random(1)
    seeds = [random_tar(seed, format) for seed in range(10) for format in FORMATS]
    refused = 0
    tracemalloc.start()
    for _ in range(2_000):
        data = bytearray(draw.choice(seeds))
        for _ in range(draw.choice([1, 1, 2, 5, 30])):
            place = draw.randrange(len(data) // BLOCK) * BLOCK + draw.choice([draw.randrange(BLOCK), 124, 156, 482])
            data[place] = draw.choice([0, 0xFF, 0x80, ord("x"), ord("S"), ord("L"), ord("7"), draw.randrange(256)])
            if draw.random() < 0.7:  # a checksum that is right again
                block = place // BLOCK * BLOCK
                whole = bytes(data[block : block + 148]) + b" " * 8 + bytes(data[block + 156 : block + BLOCK])
                data[block + 148 : block + 156] = b"%06o\0 " % sum(whole)
        data = data[: draw.randrange(len(data))] if draw.random() < 0.2 else data
        is_packed = draw.random() < 0.2
        packed = bytearray(gzip.compress(data, 1))
        packed[draw.randrange(2, len(packed))] ^= 1 << draw.randrange(8)
        found, error = until_damage(unpacked(io.BytesIO(packed if is_packed else data)))
        position = 0
        for member in found:
            assert position <= member.start <= member.start + member.size <= member.end
            position = member.end
        assert is_packed or position <= len(data)
        assert len(error) < 2_000
        refused += bool(error)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert refused > 200
    assert peak < 20_000_000
