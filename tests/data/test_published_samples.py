"""Files of published samples: read as numpy reads them, a few at a time; what is hostile or wrong is named."""

from __future__ import annotations

import io
import os
import pickle
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ddpm_seg.data import published_samples
from ddpm_seg.data.published_samples import PublishedSamples
from tests.published_samples import published, write

Change = Callable[[list[Any]], list[Any]]


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("latents", [False, True])
@pytest.mark.parametrize("at_once", [1, 7, 1000])
def test_every_sample_is_read_as_numpy_reads_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compressed: bool, latents: bool, at_once: int
) -> None:
    arrays = published(20)
    images, labels, _, uncertainty = arrays
    uri = write(tmp_path / "s.npz", *(arrays if latents else [images, labels, uncertainty]), compressed=compressed)
    monkeypatch.setattr(published_samples, "BATCH_BYTES", at_once * 16 * 16 * 4)
    with PublishedSamples(uri) as samples:
        batches = list(samples.batches())
    assert (samples.count, samples.size) == (20, 16)
    assert [batch.first for batch in batches] == list(range(0, 20, at_once))
    assert np.array_equal(np.concatenate([batch.images for batch in batches]), images)
    assert np.array_equal(np.concatenate([batch.labels for batch in batches]), labels)
    assert np.array_equal(np.concatenate([batch.uncertainty for batch in batches]), uncertainty.astype(np.float64))


def test_the_digest_tells_contents_apart_and_not_names(tmp_path: Path) -> None:
    arrays = published(5)
    digests = []
    for name, content in [("a.npz", arrays), ("b.npz", arrays), ("c.npz", [*arrays[:3], arrays[3] + 1])]:
        with PublishedSamples(write(tmp_path / name, *content)) as samples:
            digests.append(samples.digest)
    assert digests[0] == digests[1] != digests[2]


def test_memory_does_not_grow_with_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = write(tmp_path / "s.npz", *published(4000))
    monkeypatch.setattr(published_samples, "BATCH_BYTES", 2**16)
    tracemalloc.start()
    with PublishedSamples(uri) as samples:
        read = sum(len(batch.images) for batch in samples.batches())
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert read == 4000
    assert most < Path(uri).stat().st_size / 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: [a[1], a[0], *a[2:]], r"expected square RGB images, uint8 \(N, S, S, 3\), as first array"),
        (lambda a: [a[0][:, :8], *a[1:]], "expected square RGB images"),
        (lambda a: [a[0].astype(np.float32), *a[1:]], "expected square RGB images"),
        (lambda a: [a[0][:0], a[1][:0], a[2][:0], a[3][:0]], "expected square RGB images"),
        (lambda a: [a[0], a[1][:, :8], *a[2:]], "expected class ids, integers"),
        (lambda a: [a[0], a[1].astype(np.float32), *a[2:]], "expected class ids, integers"),
        (lambda a: [*a[:3], a[2]], "expected uncertainties, floats"),
        (lambda a: a[:2], "2 arrays; expected images, labels, perhaps latents, and uncertainties"),
        (lambda a: [*a, a[3]], "5 arrays"),
        (lambda a: [a[0], a[1].astype(np.int64) - 1, *a[2:]], "labels of sample 0 are not class ids"),
        (lambda a: [a[0], a[1].astype(np.int64) + 255, *a[2:]], "labels of sample 0 are not class ids"),
        (lambda a: [*a[:3], np.where(np.arange(5) == 3, np.nan, a[3])], "the uncertainty of sample 3 is nan"),
        (lambda a: [*a[:3], a[3] - 1], "the uncertainty of sample 0 is -"),
        (lambda a: [np.asfortranarray(a[0]), *a[1:]], "arr_0.npy is in Fortran's order"),
        (lambda a: [np.zeros((5, 1024, 1024, 3), np.uint8), *a[1:]], "no samples are packed so tightly"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, change: Change, message: str) -> None:
    uri = write(tmp_path / "s.npz", *change(published(5)), compressed=True)
    with pytest.raises(ValueError, match=message) as caught, PublishedSamples(uri) as samples:
        list(samples.batches())
    assert uri in str(caught.value)
    assert "\n" not in str(caught.value)


class Runs:
    """A pickle that makes a file when it is loaded."""

    def __init__(self, trace: Path) -> None:
        self.trace = str(trace)

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.trace,)


def entry(array: Any, **header: Any) -> bytes:
    """An .npy file with another header than its array's."""
    content = io.BytesIO()
    known = np.lib.format.header_data_from_array_1_0(array)
    np.lib.format.write_array_header_1_0(content, {**known, **header})
    return content.getvalue() + array.tobytes()


@pytest.mark.parametrize("place", range(4))
def test_pickles_are_refused_by_name_and_not_run(tmp_path: Path, place: int) -> None:
    arrays: list[Any] = published(5)
    arrays[place] = np.array([Runs(tmp_path / "trace")] * 5, object)
    uri = write(tmp_path / "s.npz", *arrays)
    with pytest.raises(ValueError, match=f"refused: arr_{place}.npy holds Python objects"):
        PublishedSamples(uri)
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize(
    "content",
    [
        entry(np.zeros(4, np.uint8), shape=(10**12, 256, 256, 3)),  # absurd shapes
        entry(np.zeros(4, np.uint8), shape=(-1, 256, 256, 3)),
        entry(np.zeros(4, np.uint8), shape=(10**30,)),
        b"\x93NUMPY\x02\x00" + struct.pack("<I", 2**32 - 1) + b"{" * 100,  # a header of 4 GB
        b"\x93NUMPY\x01\x00" + struct.pack("<H", 9000) + b"(" * 9000,  # nested
        b"\x93NUMPY\x09\x00" + b"\0" * 100,
        pickle.dumps([1, 2, 3]),
        b"",
    ],
    ids=["huge", "negative", "beyond 64 bits", "long header", "nested header", "version", "pickle", "empty"],
)
def test_hostile_entries_are_named_in_little_memory(tmp_path: Path, content: bytes) -> None:
    with zipfile.ZipFile(tmp_path / "s.npz", "w") as archive:
        archive.writestr("arr_0.npy", content)
        for number, array in enumerate(published(5)[1:], start=1):
            archive.writestr(f"arr_{number}.npy", entry(array))
    tracemalloc.start()
    with pytest.raises(ValueError, match=r"s\.npz: arr_0\.npy"):
        PublishedSamples(str(tmp_path / "s.npz"))
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 2**24


def test_ways_to_pack_that_numpy_does_not_use_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "s.npz", "w", zipfile.ZIP_LZMA) as archive:
        for number, array in enumerate(published(5)):
            archive.writestr(f"arr_{number}.npy", entry(array))
    with pytest.raises(ValueError, match="packed in a way that numpy does not use"):
        PublishedSamples(str(tmp_path / "s.npz"))


@pytest.mark.parametrize("compressed", [False, True])
def test_no_damage_passes(tmp_path: Path, compressed: bool) -> None:
    """One byte changed, or cut: an error that names the file, or the same samples."""
    whole = Path(write(tmp_path / "whole.npz", *published(6, 8), compressed=compressed)).read_bytes()
    uri, rng = tmp_path / "s.npz", np.random.default_rng(0)
    with PublishedSamples(str(tmp_path / "whole.npz")) as samples:
        (expected,) = samples.batches()
    named, same = 0, 0
    for trial in range(150):
        place = int(rng.integers(len(whole)))
        changed = bytes([whole[place] ^ int(rng.integers(1, 256))])
        uri.write_bytes(whole[:place] if trial % 3 == 0 else whole[:place] + changed + whole[place + 1 :])
        try:
            with PublishedSamples(str(uri)) as samples:
                (found,) = samples.batches()
        except ValueError as error:
            named += str(uri) in str(error)
        else:
            assert np.array_equal(found.images, expected.images)
            assert np.array_equal(found.labels, expected.labels)
            assert np.array_equal(found.uncertainty, expected.uncertainty)
            same += 1
    assert named + same == 150
    assert named > 100
