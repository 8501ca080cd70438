"""Reads published generated samples, an .npz file of images, labels, latents and uncertainties, a few at a time."""

# Shapes: N samples of S x S pixels; B of them in a batch.

from __future__ import annotations

import hashlib
import io
import math
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from ddpm_seg import storage
from ddpm_seg.data.decoding.images import one_line

MOST_SAMPLES, MOST_SIDE = 1_000_000, 2048
BATCH_BYTES = 2**26
MOST_EXPANDED = 100
"""The file may unpack to at most this many times its size; published ones are hardly compressed."""

_HEADER_BYTES = 10_000
_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # the others may unpack without limit in one step


@dataclass(frozen=True, kw_only=True, slots=True)
class SampleBatch:
    """Consecutive samples."""

    first: int
    """Number of the first one."""
    images: NDArray[np.uint8]
    """(B, S, S, 3) uint8, RGB."""
    labels: NDArray[np.uint8]
    """(B, S, S) uint8 class ids; 255 means no class."""
    uncertainty: NDArray[np.float64]
    """(B,) float64 in nats, at least 0."""


@dataclass(frozen=True, slots=True)
class _Array:
    """An array in the file, whose values follow after `skip` bytes of its entry."""

    entry: zipfile.ZipInfo
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    skip: int

    def __str__(self) -> str:
        return one_line(f"{self.name} is {self.dtype} {self.shape}")

    @property
    def item_bytes(self) -> int:
        return math.prod(self.shape[1:]) * self.dtype.itemsize


class PublishedSamples:
    """An opened file of published samples, to use as a context manager.

    It holds three or four arrays in this order, as ddpm-segmentation reads them: images (N, S, S, 3) uint8, labels
    (N, S, S) of integers, perhaps latents, which are not read, and uncertainties (N,). Raises ValueError naming the
    file for anything else, in particular for Python objects; nothing of the file is run. OSError if it cannot be read.
    """

    def __init__(self, uri: str) -> None:
        self.name = storage.redact(uri)
        self._file = storage.open_file(uri)
        try:
            self._open()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> PublishedSamples:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    @property
    def count(self) -> int:
        """N."""
        return self._images.shape[0]

    @property
    def size(self) -> int:
        """S."""
        return self._images.shape[1]

    def batches(self) -> Iterator[SampleBatch]:
        """Yields all samples in order. Raises ValueError for damage, and for values that cannot be."""
        batch = max(1, BATCH_BYTES // (self._images.item_bytes + self._labels.item_bytes))
        with _damage_named(self.name):
            files = [self._at_values(array) for array in (self._images, self._labels, self._uncertainty)]
            for first in range(0, self.count, batch):
                number = min(batch, self.count - first)
                images, labels, uncertainty = (
                    self._values(file, array, number)
                    for file, array in zip(files, (self._images, self._labels, self._uncertainty), strict=True)
                )
                yield SampleBatch(
                    first=first,
                    images=images,
                    labels=self._class_ids(labels, first),
                    uncertainty=self._nats(uncertainty, first),
                )
            for file in files:
                file.read(1)  # at its end zipfile compares the checksum

    def _open(self) -> None:
        with _damage_named(self.name):
            self._archive = zipfile.ZipFile(self._file)
            entries = [entry for entry in self._archive.infolist() if entry.filename.endswith(".npy")]
            self._refuse_packed(entries)
            if len(entries) not in (3, 4):
                raise ValueError(
                    f"{self.name}: {len(entries)} arrays; expected images, labels, perhaps latents, and uncertainties"
                )
            arrays = [self._described(entry) for entry in entries]
        self._images, self._labels, self._uncertainty = arrays[0], arrays[1], arrays[-1]
        self._check()
        contents = [(array.name, array.entry.CRC, array.entry.file_size) for array in arrays]
        self.digest = hashlib.sha256(repr(contents).encode()).hexdigest()
        """Identifies the content, by the checksums of its arrays."""

    def _refuse_packed(self, entries: list[zipfile.ZipInfo]) -> None:
        size = self._file.seek(0, io.SEEK_END)
        unpacked = sum(entry.file_size for entry in entries)
        if unpacked > MOST_EXPANDED * size:
            raise ValueError(f"{self.name}: {size} bytes that unpack to {unpacked}; no samples are packed so tightly")
        for entry in entries:
            if entry.compress_type not in _COMPRESSIONS or entry.flag_bits & 1:
                raise ValueError(
                    f"{self.name}: {_shown(entry)} is encrypted, or packed in a way that numpy does not use"
                )

    def _described(self, entry: zipfile.ZipInfo) -> _Array:
        name = _shown(entry)
        with self._archive.open(entry) as file:
            header = _read_header(file)
        if header is None:
            raise ValueError(f"{self.name}: {name} is not an array that numpy wrote, or a damaged one")
        shape, column_order, dtype, skip = header
        if dtype.hasobject:
            raise ValueError(f"{self.name}: refused: {name} holds Python objects (pickles), and only numbers are read")
        array = _Array(entry, name, shape, dtype, skip)
        if any(length < 0 for length in shape) or skip + math.prod(shape) * dtype.itemsize != entry.file_size:
            raise ValueError(f"{self.name}: {array}, but has {entry.file_size - skip} bytes; it is damaged")
        if column_order and len(shape) > 1:
            raise ValueError(f"{self.name}: {name} is in Fortran's order; save it with numpy.ascontiguousarray")
        return array

    def _check(self) -> None:
        images, labels, uncertainty = self._images, self._labels, self._uncertainty
        count, size = (*images.shape, 0, 0)[:2]
        if images.shape != (count, size, size, 3) or images.dtype != np.uint8 or not count or not size:
            raise ValueError(f"{self.name}: {images}; expected square RGB images, uint8 (N, S, S, 3), as first array")
        if count > MOST_SAMPLES or size > MOST_SIDE:
            raise ValueError(
                f"{self.name}: {images}; expected at most {MOST_SAMPLES} samples of {MOST_SIDE} x {MOST_SIDE} pixels"
            )
        if labels.shape != (count, size, size) or labels.dtype.kind not in "iu":
            raise ValueError(f"{self.name}: {labels}; expected class ids, integers (N, S, S), as second array")
        if uncertainty.shape not in ((count,), (count, 1)) or uncertainty.dtype.kind != "f":
            raise ValueError(f"{self.name}: {uncertainty}; expected uncertainties, floats (N,), as last array")

    def _at_values(self, array: _Array) -> IO[bytes]:
        file = self._archive.open(array.entry)
        file.read(array.skip)
        return file

    def _values(self, file: IO[bytes], array: _Array, number: int) -> NDArray[Any]:
        data = file.read(number * array.item_bytes)
        if len(data) != number * array.item_bytes:
            raise ValueError(f"{self.name}: {array.name} ends too early; the file is damaged")
        return np.frombuffer(data, array.dtype).reshape(number, *array.shape[1:])

    def _class_ids(self, labels: NDArray[Any], first: int) -> NDArray[np.uint8]:
        if labels.min() < 0 or labels.max() > 255:
            wrong = int(np.flatnonzero((labels < 0).any(axis=(1, 2)) | (labels > 255).any(axis=(1, 2)))[0])
            raise ValueError(f"{self.name}: labels of sample {first + wrong} are not class ids from 0 to 255")
        return labels.astype(np.uint8)

    def _nats(self, uncertainty: NDArray[Any], first: int) -> NDArray[np.float64]:
        nats = uncertainty.reshape(-1).astype(np.float64)
        wrong = np.flatnonzero(~np.isfinite(nats) | (nats < -1e-3))
        if len(wrong):
            raise ValueError(
                f"{self.name}: the uncertainty of sample {first + int(wrong[0])} is {nats[wrong[0]]:g}; expected a "
                "number of at least 0"
            )
        return np.maximum(nats, 0)  # rounding leaves some a little below 0


@contextmanager
def _damage_named(name: str) -> Iterator[None]:
    """Turns what zipfile raises for a damaged archive into a ValueError that names the file."""
    try:
        yield
    # Wrong offsets and lengths raise the others, besides zipfile's own exceptions.
    except (zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, EOFError, RuntimeError, KeyError) as error:
        reason = one_line(str(error))
        raise ValueError(f"{name}: not an .npz file, or a damaged one: {reason}; download it again") from None


def _read_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any], int] | None:
    """Shape, whether in Fortran's order, dtype, and the length of the header; None if it is none."""
    magic = file.read(8)
    if magic[:6] != np.lib.format.MAGIC_PREFIX or magic[6:7] not in (b"\1", b"\2"):
        return None
    width = 2 if magic[6] == 1 else 4
    length = int.from_bytes(file.read(width), "little")
    if length > _HEADER_BYTES:
        return None
    text = length.to_bytes(2, "little") + file.read(length)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about files of Python 2
            shape, column_order, dtype = np.lib.format.read_array_header_1_0(io.BytesIO(text))
    # It is parsed as Python's literals, in two ways, and these raise almost any exception for damage.
    except Exception:
        return None
    return shape, column_order, dtype, 8 + width + length


def _shown(entry: zipfile.ZipInfo) -> str:
    return one_line(entry.filename, 60)
