"""What `torch.save` or safetensors wrote, as tensors by name: read without running anything, and checked."""

from __future__ import annotations

import argparse
import io
import pickle
import re
import warnings
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO, Any

import safetensors.torch
import torch
from torch import Tensor

from ddpm_seg import storage
from ddpm_seg.model.shapes import Shapes, differences, some

State = dict[str, Tensor]

MOST_EXPANDED = 4
"""Times its size that a checkpoint may unpack to. What torch writes is not packed at all."""


class Inert:
    """What a pickle gets in place of a class that it names: attributes alone, and no code of the file's or of ours."""


# Beside the weights, published checkpoints hold the arguments of their training (MAE) and its mean losses (ALAE).
_HARMLESS: list[Any] = [
    argparse.Namespace,
    (Inert, "tracker.RunningMeanTorch"),
    (Inert, "tracker.RunningMean"),
]

# The begin of torch's older form, in any protocol of pickle: a number.
_TORCH_MAGIC = re.compile(
    rb"\x80.(\x95.{8})?" + re.escape(pickle.dumps(torch.serialization.MAGIC_NUMBER, protocol=2)[2:]), re.DOTALL
)

# Parts that torch's wrappers put into the names of weights: torch.compile, FSDP and activation checkpointing. The
# "module" of DataParallel is a name like any other, and taken for a wrapper's only where every name begins with it.
_WRAPPER = re.compile(r"(?<![^.])_(orig_mod|fsdp_wrapped_module|checkpoint_wrapped_module)\.")


def read_checkpoint(uri: str, *, mapped: bool = True) -> Any:
    """What `torch.save` wrote, in its zip or its older form, or the tensors of a safetensors file; on the CPU.

    A pickle may name any function and have it called, so only tensors and plain containers are read from one, and a
    few classes of published checkpoints, as objects with attributes alone. Nothing is unpacked that is larger than the
    file. With `mapped` a local file's tensors cost no memory until they are read, and it must not change meanwhile.

    Raises ValueError, naming the file, for anything else than a checkpoint; OSError for what cannot be read.
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
    """`read_checkpoint` of a file of which these are the bytes, called `name` in messages."""
    source = io.BytesIO(data)
    size = refuse_no_checkpoint(source, name)
    load = _load_safetensors if _is_safetensors(source) else _load_pickle
    content = load(source, name)
    _refuse_expanded(content, size, name)
    return content


def _can_be_mapped(path: Path) -> bool:
    """Whether it is a safetensors file or torch's zip. A pipe would make whoever opens it wait."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return _is_safetensors(file) or zipfile.is_zipfile(file)


def read_file(uri: str, name: str) -> bytes:
    """A file's bytes. Raises ValueError, naming it, where memory is too small for them."""
    try:
        return storage.read_bytes(uri)
    except MemoryError:
        raise ValueError(f"{name}: it does not fit into the memory of this machine") from None


def is_torch_file(file: IO[bytes]) -> bool:
    """Whether it begins as `torch.save` or safetensors write, as against another's pickle. It stands at its begin."""
    file.seek(0)
    begin = file.read(64)
    file.seek(0)
    return begin.startswith(b"PK\x03\x04") or bool(_TORCH_MAGIC.match(begin)) or _is_safetensors(file)


def _is_safetensors(file: IO[bytes]) -> bool:
    """Whether it begins with the length of a JSON object, and then that object. Afterwards it stands at its begin."""
    file.seek(0)
    begin = file.read(9)
    file.seek(0)
    return len(begin) == 9 and begin[8:] == b"{"


def refuse_no_checkpoint(file: IO[bytes], name: str) -> int:
    """Raises ValueError for what is downloaded in place of a checkpoint, and for one that unpacks to more than it is.

    Returns the file's size; afterwards it stands at its begin.
    """
    begin = file.read(512)
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    refuse_placeholder(begin, name, "checkpoint")
    if zipfile.is_zipfile(file):
        _refuse_packed(file, size, name)
    elif isinstance(file, io.BytesIO):
        _refuse_allocation(file.getvalue(), name)
    file.seek(0)
    return size


def refuse_placeholder(begin: bytes, name: str, expected: str) -> None:
    """Raises ValueError for what a download leaves in place of the file, which begins with `begin`."""
    if not begin:
        raise ValueError(f"{name}: an empty file, expected a {expected}; download it again")
    if begin.startswith(b"version https://git-lfs"):
        raise ValueError(f"{name}: a pointer of Git LFS, expected the {expected} itself; get it with `git lfs pull`")
    if re.match(rb"\s*<(!doctype|html|\?xml)", begin, re.IGNORECASE):
        raise ValueError(f"{name}: a web page, expected a {expected}; download the file itself")


def _refuse_packed(file: IO[bytes], size: int, name: str) -> None:
    try:
        with zipfile.ZipFile(file) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
            tight = unpacked > MOST_EXPANDED * size + 2**20
            wanted = [] if tight else [entry for entry in archive.infolist() if entry.filename.endswith("data.pkl")]
            pickles = [archive.read(entry) for entry in wanted]
    # Names, lengths and checksums of a damaged archive each have their own exception.
    except Exception as error:
        raise ValueError(f"{name}: not a checkpoint, or a damaged one: {reason(error)}") from None
    if tight:
        raise ValueError(f"{name}: {size} bytes that unpack to {unpacked}; no checkpoint is packed so tightly")
    for pickled in pickles:
        _refuse_allocation(pickled, name)


def _refuse_allocation(pickled: bytes, name: str) -> None:
    """torch lets a pickle make a bytearray of any length, which no checkpoint needs."""
    if b"bytearray" in pickled:
        raise ValueError(f"{name}: refused: it needs builtins.bytearray, and only tensors in plain containers are read")


def _load_safetensors(source: Any, name: str) -> State:
    try:
        if isinstance(source, str):
            return safetensors.torch.load_file(source)
        return safetensors.torch.load(source.getvalue())
    except OSError:
        raise
    # Its own exception, and those of types that this torch does not have.
    except Exception as error:
        raise ValueError(f"{name}: not a safetensors file, or a damaged one: {reason(error)}") from None


def _load_pickle(source: str | IO[bytes], name: str) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pickle protocols that it then reads, or refuses with a message
            with torch.serialization.safe_globals(_HARMLESS):
                return torch.load(source, map_location="cpu", weights_only=True, mmap=isinstance(source, str))
    except pickle.UnpicklingError as error:
        if found := re.search(r"GLOBAL (\S+)", str(error)):
            raise ValueError(
                f"{name}: refused: it needs {found[1]}, and only tensors in plain containers are read from a pickle; "
                "save the state dict alone, with torch.save(model.state_dict(), FILE)"
            ) from None
        raise ValueError(f"{name}: not a checkpoint that can be read: {reason(error)}") from None
    except OSError:
        raise
    # A damaged pickle can end in almost any exception of the interpreter that torch runs it with.
    except Exception as error:
        raise ValueError(f"{name}: not a checkpoint, or a damaged one: {reason(error)}") from None


def _refuse_expanded(content: Any, size: int, name: str) -> None:
    """Raises ValueError for tensors that hold more numbers than the file: a few bytes, shown many times over."""
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
            if own > value.untyped_storage().nbytes() or total > MOST_EXPANDED * size + 2**20:
                raise ValueError(f"{name}: {size} bytes that unpack to more than {max(own, total)}; it is damaged")


def state_dict(content: Any, name: str) -> State:
    """Tensors by key, without what torch's wrappers put into the keys (`unwrapped_names`)."""
    tensors = isinstance(content, Mapping) and all(
        isinstance(key, str) and isinstance(value, Tensor) and value.layout is torch.strided
        for key, value in content.items()
    )
    if not tensors or not content:
        raise ValueError(f"{name}: expected a plain state dict (tensors by name), got {describe(content)}")
    names = unwrapped_names(content)
    return {names[key]: value for key, value in content.items()}


def unwrapped_names(keys: Iterable[str]) -> dict[str, str]:
    """The name that each weight has in the network itself, by its key in a file.

    Keys stay as they are where two of them would become one.
    """
    names = {key: _WRAPPER.sub("", key) for key in keys}
    while names and all(name.startswith("module.") for name in names.values()):
        names = {key: name.removeprefix("module.") for key, name in names.items()}
    return names if len(set(names.values())) == len(names) else {key: key for key in names}


def check_shapes(shapes: Shapes, expected: Shapes, complaint: str) -> None:
    """Raises ValueError, with `complaint` and the first differences, where `shapes` are others than `expected`."""
    if wrong := differences(shapes, expected):
        raise ValueError(f"{complaint}: {wrong}")


def usable(state: State, name: str) -> State:
    """Float16 and float32 as they are, other floating types as float32; ValueError for a weight that is no number."""
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
    """What was found in place of something else."""
    return f"a dictionary with {some(content)}" if isinstance(content, Mapping) else f"a {type(content).__name__}"


def base_name(uri: str) -> str:
    """The last part of a path or URI, for messages."""
    return storage.redact(uri).rstrip("/").rpartition("/")[2]


def reason(error: Exception) -> str:
    """The first sentence; of torch's refusals what its unpickler says, not the advice to load them all the same."""
    text = str(error).partition("WeightsUnpickler error:")[2] or str(error)
    return (re.split(r"\. |\n", text.strip())[0] or type(error).__name__)[:200]
