"""Safetensors files of a bundle: written unchanged, and read only if they match bundle.json."""

from __future__ import annotations

import hashlib
import math
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from ddpm_seg import storage
from ddpm_seg.model.bundle.files import model_id_of, read_content, refuse_another_model, refuse_strange_file
from ddpm_seg.model.errors import BundleError
from ddpm_seg.model.json_values import as_object, one_line, parse_object, shown
from ddpm_seg.model.shapes import Shapes, differences

MAX_HEADER_BYTES = 2**24
"""Limit on the JSON before the tensors; the published DDPM's has 60 kB."""
MAX_ITEM_BYTES = 8
FLOATS, COUNTERS = ("F16", "BF16", "F32", "F64"), ("I32", "I64")


@contextmanager
def staged_weights(tensors: Mapping[str, Mapping[str, Tensor]]) -> Iterator[dict[str, Path]]:
    """Yields safetensors files with these names in a temporary folder, which is deleted after the block.

    Writing files one by one keeps only one copy of the largest in memory, besides the tensors. Raises BundleError for
    values that are not finite, since reading refuses them.
    """
    with tempfile.TemporaryDirectory() as folder:
        paths = {name: Path(folder) / name for name in tensors}
        for name, path in paths.items():
            _refuse_not_finite(name, tensors[name])
            whole = {key: value.detach().cpu().contiguous() for key, value in tensors[name].items()}
            safetensors.torch.save_file(whole, path)
        yield paths


def digests(paths: Mapping[str, Path]) -> dict[str, str]:
    """sha256 of each file, by name."""
    return {name: _sha256(path) for name, path in paths.items()}


def load_files(
    uri: str, content: Mapping[str, Any], files: Mapping[str, str], expected: Mapping[str, Shapes]
) -> dict[str, dict[str, Tensor]]:
    """Tensors of each of the bundle's `files` (names with their sha256), by the file's name.

    Compares size, sha256 and header before it makes any tensor. Raises ModelChangedError if the bundle's `content`
    (bundle.json as read before) has been replaced since, BundleError for a file whose tensors are not as `expected` or
    not finite.
    """
    try:
        return {name: _load_tensors(uri, name, sha256, expected[name]) for name, sha256 in files.items()}
    except (BundleError, FileNotFoundError) as error:
        refuse_another_model(uri, model_id_of(read_content(uri)[1]), model_id_of(content))
        if isinstance(error, FileNotFoundError):
            raise BundleError(f"{storage.redact(uri)} is incomplete: a file of weights is missing ({error})") from error
        raise


def _load_tensors(folder: str, name: str, sha256: str, expected: Shapes) -> dict[str, Tensor]:
    where = storage.redact(storage.join(folder, name))
    refuse_strange_file(folder, name)
    try:
        # Not memory-mapped: a running model would change with whatever is written into its file.
        limit = 8 + MAX_HEADER_BYTES + MAX_ITEM_BYTES * sum(map(math.prod, expected.values()))
        data = storage.read_bytes(storage.join(folder, name), max_bytes=limit)
    except storage.FileTooLargeError as error:
        raise BundleError(f"{where} is damaged: it is larger than what bundle.json describes") from error
    if hashlib.sha256(data).hexdigest() != sha256:
        raise BundleError(f"{where} is damaged, or is being replaced: its sha256 is not the one in bundle.json")
    _check_header(where, data, expected)
    try:
        tensors = safetensors.torch.load(data)
    except safetensors.SafetensorError as error:
        raise BundleError(f"{where} is not a safetensors file: {one_line(error)}") from error
    _refuse_not_finite(where, tensors)
    return tensors


def _refuse_not_finite(where: str, tensors: Mapping[str, Tensor]) -> None:
    for key, tensor in tensors.items():
        # Minimum and maximum are NaN if any value is: 15 times faster than checking each value.
        if not torch.stack(torch.aminmax(tensor.detach())).isfinite().all():
            raise BundleError(f"{where}: {key} has values that are not finite numbers; its training may have diverged")


def check_shapes(what: str, found: Shapes, expected: Shapes) -> None:
    """Raises BundleError if the shapes `found` are not those `expected`."""
    if wrong := differences(found, expected):
        raise BundleError(f"{what}: {wrong}")


def _check_header(where: str, data: bytes, expected: Shapes) -> None:
    """Raises BundleError for tensors with other names, shapes or types. (safetensors itself checks their offsets.)"""
    length = int.from_bytes(data[:8], "little")
    if not 0 < length <= min(MAX_HEADER_BYTES, len(data) - 8):
        raise BundleError(f"{where} is not a safetensors file: it says that its header has {length} bytes")
    try:
        header = parse_object(data[8 : 8 + length])
        header.pop("__metadata__", None)
        entries = {key: as_object(value, shown(key)) for key, value in header.items()}
    except ValueError as error:
        raise BundleError(f"{where} is not a safetensors file: its header: {one_line(error)}") from error
    for key, entry in entries.items():
        if not isinstance(entry.get("shape"), list):
            raise BundleError(f"{where}: {shown(key)} has shape {shown(entry.get('shape'))}, expected a list")
    check_shapes(where, {key: tuple(entry["shape"]) for key, entry in entries.items()}, expected)
    for key, entry in entries.items():
        types = (*FLOATS, *COUNTERS) if key.endswith("num_batches_tracked") else FLOATS
        if entry.get("dtype") not in types:
            raise BundleError(
                f"{where}: {key} is of type {shown(entry.get('dtype'))}, expected one of {', '.join(types)}"
            )


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()
