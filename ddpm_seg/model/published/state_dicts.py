"""Reads files of `torch.save` or safetensors as tensors by name, checked, and without running any of their code."""

from __future__ import annotations

import argparse
import contextlib
import io
import pickle
import pickletools
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import safetensors.torch
import torch
from torch import Tensor

from ddpm_seg import storage
from ddpm_seg.model.published.wrapped_names import unwrapped_names
from ddpm_seg.model.shapes import Shapes, differences, some

State = dict[str, Tensor]

MOST_EXPANDED = 4
"""A checkpoint may unpack to at most this many times its size. torch does not compress."""


class Inert:
    """Replaces a class that a pickle names: has only attributes, and runs no code, neither the file's nor ours."""


# Besides weights, published checkpoints hold the arguments of their training (MAE) and its mean losses (ALAE).
_HARMLESS: list[Any] = [
    argparse.Namespace,
    (Inert, "tracker.RunningMeanTorch"),
    (Inert, "tracker.RunningMean"),
]

TUPLES = ("TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "FROZENSET")
"""Operations of a pickle that make what may be a dictionary's key, of other such things."""
MOST_TUPLES = 100_000
"""Tuples in a pickle; a tensor takes four. Python hashes tuples in tuples without a limit of depth, until its stack
overflows and the process dies."""
MOST_OPERATIONS = 2_000_000
"""Operations in a pickle; a tensor takes some sixty. A byte of them can cost a hundred bytes of memory."""
_PICKLES_OF_THE_OLDER_FORM = 5

_ZIP = b"PK\x03\x04"
# How torch's older format begins, in any pickle protocol: with a magic number.
_TORCH_MAGIC = re.compile(
    rb"\x80.(\x95.{8})?" + re.escape(pickle.dumps(torch.serialization.MAGIC_NUMBER, protocol=2)[2:]), re.DOTALL
)


def read_checkpoint(uri: str, *, mapped: bool = True) -> Any:
    """Reads a checkpoint of `torch.save`, in its zip or its older format, or the tensors of a safetensors file; on the
    CPU.

    A pickle can name any function and have it called, so only tensors, plain containers and a few classes of published
    checkpoints (as objects with only attributes) are read from one. Nothing may unpack to much more than the file's
    size. With `mapped`, a local file's tensors take no memory until they are read, and the file must not change
    meanwhile. Raises ValueError, naming the file, if it is not a checkpoint; OSError if it cannot be read.
    """
    name = storage.redact(uri)
    uri = storage.normalize(uri)
    if not (mapped and storage.is_local(uri) and _can_be_mapped(Path(uri))):
        return checkpoint_of(read_file(uri, name), name)
    with Path(uri).open("rb") as source:
        size = refuse_no_checkpoint(source, name)
        load = _load_safetensors if _is_safetensors(source) else _load_pickle
        content = load(uri, name)
    _refuse_expanded(content, size, name)
    return content


def checkpoint_of(data: bytes, name: str) -> Any:
    """Like `read_checkpoint`, for a file's bytes; `name` is the file's name in messages."""
    source = io.BytesIO(data)
    size = refuse_no_checkpoint(source, name)
    if not is_torch_file(source):
        raise ValueError(
            f"{name}: not a checkpoint: it does not begin like a file of torch.save or safetensors; if it is packed, "
            "unpack it"
        )
    load = _load_safetensors if _is_safetensors(source) else _load_pickle
    content = load(source, name)
    _refuse_expanded(content, size, name)
    return content


def _can_be_mapped(path: Path) -> bool:
    """Whether it is a safetensors file or torch's zip. Does not open a pipe, which would block."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return _is_safetensors(file) or zipfile.is_zipfile(file)


def read_file(uri: str, name: str) -> bytes:
    """A file's bytes. Raises ValueError, naming it, if they do not fit into memory."""
    try:
        return storage.read_bytes(uri)
    except MemoryError:
        raise ValueError(f"{name}: it does not fit into the memory of this machine") from None


def is_torch_file(file: IO[bytes]) -> bool:
    """Whether the file begins like one of `torch.save` or safetensors, unlike other pickles. Leaves it at its start."""
    file.seek(0)
    begin = file.read(64)
    file.seek(0)
    return begin.startswith(_ZIP) or bool(_TORCH_MAGIC.match(begin)) or _is_safetensors(file)


def _is_safetensors(file: IO[bytes]) -> bool:
    """Whether the file begins with a length followed by a JSON object. Leaves it at its start."""
    file.seek(0)
    begin = file.read(9)
    file.seek(0)
    return len(begin) == 9 and begin[8:] == b"{"


def refuse_no_checkpoint(file: IO[bytes], name: str) -> int:
    """Raises ValueError for files that downloads leave instead of a checkpoint, and for one that unpacks to too much.

    Returns the file's size, and leaves it at its start.
    """
    begin = file.read(512)
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    refuse_placeholder(begin, name, "checkpoint")
    if zipfile.is_zipfile(file):
        _refuse_packed(file, size, name)
    elif begin.startswith(_ZIP):
        raise ValueError(f"{name}: not a whole checkpoint: its end is missing; download it again")
    elif isinstance(file, io.BytesIO):
        _refuse_allocation(file.getvalue(), name)
    file.seek(0)
    return size


def refuse_placeholder(begin: bytes, name: str, expected: str) -> None:
    """Raises ValueError if `begin`, the start of a file, shows that a download left something else in its place."""
    if not begin:
        raise ValueError(f"{name}: an empty file, expected a {expected}; download it again")
    if pointer := storage.lfs_pointer(begin, expected):
        raise ValueError(f"{name}: {pointer}")
    if re.match(rb"\s*<(!doctype|html|\?xml)", begin, re.IGNORECASE):
        raise ValueError(f"{name}: a web page, expected a {expected}; download the file itself")


def _refuse_packed(file: IO[bytes], size: int, name: str) -> None:
    try:
        with zipfile.ZipFile(file) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
            tight = unpacked > MOST_EXPANDED * size + 2**20
            wanted = [] if tight else [entry for entry in archive.infolist() if entry.filename.endswith("data.pkl")]
            pickles = [archive.read(entry) for entry in wanted]
    # Wrong names, lengths and checksums in a damaged archive raise different exceptions.
    except Exception as error:
        raise ValueError(f"{name}: not a checkpoint, or a damaged one: {reason(error)}") from None
    if tight:
        raise ValueError(f"{name}: {size} bytes that unpack to {unpacked}; no checkpoint is packed so tightly")
    for pickled in pickles:
        _refuse_allocation(pickled, name)


def _refuse_allocation(pickled: bytes, name: str) -> None:
    """Refuses a pickle that makes a bytearray, of which torch would allow any length, or nests tuples too deeply."""
    if b"bytearray" in pickled:
        raise ValueError(f"{name}: refused: it needs builtins.bytearray, and only tensors in plain containers are read")
    for operations, tuples in _counts(pickled):
        if tuples > MOST_TUPLES:
            raise ValueError(f"{name}: refused: it has more than {MOST_TUPLES} tuples; too many")
        if operations > MOST_OPERATIONS:
            raise ValueError(
                f"{name}: refused: it has more than {MOST_OPERATIONS} operations; no checkpoint needs so many"
            )


def _counts(pickled: bytes) -> Iterator[tuple[int, int]]:
    """Counts operations and tuples in the pickles that a file begins with: one in torch's zip, five in its older form.

    What follows them, or is damaged, is not counted: torch says what is wrong.
    """
    stream, operations, tuples = io.BytesIO(pickled), 0, 0
    with contextlib.suppress(ValueError, EOFError, OverflowError, UnicodeDecodeError):
        for _ in range(_PICKLES_OF_THE_OLDER_FORM):
            for operation, _, _ in pickletools.genops(stream):
                operations, tuples = operations + 1, tuples + (operation.name in TUPLES)
                yield operations, tuples


def _load_safetensors(source: Any, name: str) -> State:
    try:
        if isinstance(source, str):
            return safetensors.torch.load_file(source)
        return safetensors.torch.load(source.getvalue())
    except OSError:
        raise
    # safetensors' own exception, and those for types that this torch does not have.
    except Exception as error:
        raise ValueError(f"{name}: not a safetensors file, or a damaged one: {reason(error)}") from None


def _load_pickle(source: str | IO[bytes], name: str) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickle protocols, which torch then reads or refuses
            with torch.serialization.safe_globals(_HARMLESS):
                return torch.load(source, map_location="cpu", weights_only=True, mmap=isinstance(source, str))
    except pickle.UnpicklingError as error:
        if found := re.search(r"GLOBAL (\S+)", str(error)):
            raise ValueError(
                f"{name}: refused: it needs {found[1]}, and only tensors in plain containers are read from a pickle; "
                "save only the state dict, with torch.save(model.state_dict(), FILE)"
            ) from None
        raise ValueError(f"{name}: not a checkpoint that can be read: {reason(error)}") from None
    except OSError:
        raise
    # A damaged pickle can raise almost any exception in torch's unpickler.
    except Exception as error:
        raise ValueError(f"{name}: not a checkpoint, or a damaged one: {reason(error)}") from None


def _refuse_expanded(content: Any, size: int, name: str) -> None:
    """Raises ValueError if the tensors have more bytes than the file: a few bytes are repeated many times, or there are
    none (torch saves tensors of its meta device, too)."""
    total, seen, level = 0, set(), [content]
    while level:
        value = level.pop()
        if isinstance(value, Mapping | list | tuple):
            if id(value) not in seen:
                level += value.values() if isinstance(value, Mapping) else value
            seen.add(id(value))
        elif isinstance(value, Tensor) and value.layout is torch.strided:
            own = value.numel() * value.element_size()
            total += own
            stored = 0 if value.is_meta else value.untyped_storage().nbytes()
            if own > stored or total > MOST_EXPANDED * size + 2**20:
                raise ValueError(f"{name}: {size} bytes that unpack to more than {max(own, total)}; it is damaged")


def state_dict(content: Any, name: str) -> State:
    """Tensors by key, without what torch's wrappers add to the keys (`unwrapped_names`)."""
    tensors = isinstance(content, Mapping) and all(
        isinstance(key, str) and isinstance(value, Tensor) and value.layout is torch.strided
        for key, value in content.items()
    )
    if not tensors or not content:
        raise ValueError(f"{name}: expected a plain state dict (tensors by name), got {describe(content)}")
    names = unwrapped_names(content)
    return {names[key]: value for key, value in content.items()}


def check_shapes(shapes: Shapes, expected: Shapes, complaint: str) -> None:
    """Raises ValueError, with `complaint` and the first differences, if `shapes` and `expected` differ."""
    if wrong := differences(shapes, expected):
        raise ValueError(f"{complaint}: {wrong}")


def usable(state: State, name: str) -> State:
    """Keeps float16 and float32, converts other floating types to float32. Raises ValueError for weights that are not
    finite or not floating-point."""
    usable = {}
    for key, tensor in state.items():
        if not tensor.is_floating_point() and not key.endswith("num_batches_tracked"):
            raise ValueError(f"{name}: {key} is {tensor.dtype}; expected floating-point weights")
        if tensor.is_floating_point() and tensor.dtype not in (torch.float16, torch.float32):
            tensor = tensor.float()
        if not tensor.isfinite().all():
            raise ValueError(f"{name}: {key} has values that are not finite numbers; the file is damaged")
        usable[key] = tensor
    return usable


def describe(content: Any) -> str:
    """Describes what a file holds instead of the expected content."""
    return f"a dictionary with {some(content)}" if isinstance(content, Mapping) else f"a {type(content).__name__}"


def base_name(uri: str) -> str:
    """The last part of a path or URI, for messages."""
    return storage.redact(uri).rstrip("/").rpartition("/")[2]


def reason(error: Exception) -> str:
    """The first sentence of an error. For torch's refusals, what its unpickler says, not the advice to load the file
    anyway."""
    text = str(error).partition("WeightsUnpickler error:")[2] or str(error)
    return (re.split(r"\. |\n", text.strip())[0] or type(error).__name__)[:200]
