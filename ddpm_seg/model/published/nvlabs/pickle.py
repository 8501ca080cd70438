"""NVlabs' pickles of networks as plain data: nothing in them is run, and no name in them is imported.

Their own loader compiles the source text that each module brings with it. Here a name in the file stands for a class or
a function that only keeps what it is given, made anew for each file: a pickle may write attributes on whatever a name
leads to.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
import re
import warnings
from typing import IO, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ddpm_seg.model.json_values import shown
from ddpm_seg.model.published.state_dicts import TUPLES, checkpoint_of, reason, refuse_placeholder

MOST_OPERATIONS = 1_000_000
"""Limit for a pickle's operations; a published one has about 50,000. One byte can cost a hundred bytes of memory."""
MOST_TUPLES = 20_000
"""Limit for tuples: Python compares nested tuples without a limit on depth, until its stack overflows."""
MOST_DIMENSIONS = 8

_NUMBER = re.compile(r"[<>=|]?([fiu][1248]|b1|\?)")


class Kept:
    """Stands for what a name in the file refers to; `content` is what it was made from."""

    content: Any = None

    def __setstate__(self, state: Any) -> None:
        self.content = state


class Array(Kept):
    """A tensor or array."""

    value: Tensor | NDArray[Any] | None = None

    def __setstate__(self, state: Any) -> None:
        raise _RefusedError("it changes an array after it was made")


class Module(Kept):
    """A module of the PyTorch code, or a network of the TensorFlow code: its `content` is the dict of its state."""


def read_nvlabs_pickle(file: IO[bytes], name: str) -> Any:
    """The content of a pickle by stylegan2-ada-pytorch, StyleGAN3's code or the TensorFlow StyleGAN2.

    Modules are `Module`, tensors and arrays `Array`; dictionaries, lists, tuples, numbers and text are themselves.
    Raises ValueError, naming the file, for one that is damaged or needs any other name.
    """
    file.seek(0)
    refuse_placeholder(file.read(512), name, "pickle")
    size = file.seek(0, io.SEEK_END)
    try:
        _refuse_bombs(file)
        file.seek(0)
        return _Reader(file, size).load()
    except _RefusedError as error:
        raise ValueError(f"{name}: refused: {error}") from None
    except OSError:
        raise
    # A damaged pickle can end in almost any exception.
    except Exception as error:
        raise ValueError(f"{name}: not a pickle of NVlabs', or a damaged one: {reason(error)}") from None


class _RefusedError(ValueError):
    """What no network needs."""


def _refuse_bombs(file: IO[bytes]) -> None:
    """Raises _RefusedError for a few bytes that would cost much memory, ValueError for a pickle that is not whole."""
    file.seek(0)
    stored = tuples = 0
    for count, (operation, argument, _) in enumerate(pickletools.genops(file)):
        if count == MOST_OPERATIONS:
            raise _RefusedError(f"it has more than {MOST_OPERATIONS} operations")
        numbered = operation.name in ("PUT", "BINPUT", "LONG_BINPUT")
        if numbered and not 0 <= int(argument or 0) <= stored:
            # Python would make room for all numbers up to this one. What writes pickles numbers one by one.
            raise _RefusedError(f"it stores its object {stored} as number {argument}")
        stored += numbered or operation.name == "MEMOIZE"
        tuples += operation.name in TUPLES
        if tuples > MOST_TUPLES:
            raise _RefusedError(f"it has more than {MOST_TUPLES} tuples")
    if file.read(1):
        raise _RefusedError("it has more bytes after its end")  # they would raise the limit for what it unpacks to


class _Reader(pickle.Unpickler):
    def __init__(self, file: IO[bytes], size: int) -> None:
        super().__init__(file)
        self._known = _known_names(size)

    def find_class(self, module: str, name: str) -> Any:
        if (found := self._known.get(f"{module}.{name}")) is not None:
            return found
        raise _RefusedError(f"it needs {_printable(f'{module}.{name}')}, and only networks of StyleGAN2 are read")


def _printable(name: str) -> str:
    return name if name.isprintable() and len(name) <= 80 else shown(name)


def _known_names(size: int) -> dict[str, Any]:
    """What each name that a file of `size` bytes may use stands for."""

    class Dictionary(dict[Any, Any]):
        def __init__(self) -> None:
            """Without content: it comes entry by entry."""

        def __setstate__(self, state: Any) -> None:
            """Attributes are not read."""

    class Network(Module):
        """A network of the TensorFlow code."""

    class Persistent(Module):
        """A module of the PyTorch code."""

    def reconstruct_persistent(meta: Any) -> Module:
        module = Persistent()
        module.content = meta["state"]
        return module

    return {
        "collections.OrderedDict": Dictionary,
        "dnnlib.util.EasyDict": Dictionary,
        "dnnlib.tflib.network.Network": Network,
        "torch_utils.persistence._reconstruct_persistent_obj": reconstruct_persistent,
        **_names_of_torch(size),
        **_names_of_numpy(),
    }


def _names_of_torch(size: int) -> dict[str, Any]:
    """What the names in tensors stand for. All storages together may unpack to `size` bytes."""

    class TorchArray(Array):
        def __init__(self, value: Tensor) -> None:
            self.value = value

    class TorchStorage(Kept):
        """`content`: a tensor of one dimension."""

        def __setstate__(self, state: Any) -> None:
            raise _RefusedError("it changes a storage after it was made")

    unpacked = 0

    def load_storage(data: Any) -> TorchStorage:
        nonlocal unpacked
        unpacked += len(data)
        if unpacked > size:
            raise _RefusedError(f"it has {size} bytes that unpack to more")
        storage = TorchStorage()
        storage.content = _torch_storage(data)
        return storage

    def rebuild_tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> Array:
        return TorchArray(_torch_tensor(storage.content, offset, shape, strides))

    def rebuild_parameter(data: Any, *_: Any) -> Any:
        return data

    return {
        "torch.storage._load_from_bytes": load_storage,
        "torch._utils._rebuild_tensor_v2": rebuild_tensor,
        "torch._utils._rebuild_parameter": rebuild_parameter,
    }


def _names_of_numpy() -> dict[str, Any]:
    """What the names in numpy's arrays and numbers stand for."""

    class NumpyType(Kept):
        def __init__(self, code: Any, *_: Any) -> None:
            self.code: Any = code
            self.order: Any = "="

        def __setstate__(self, state: Any) -> None:
            self.order = state[1]

        def dtype(self) -> np.dtype[Any]:
            return _number_type(self.code).newbyteorder(self.order)

    class NumpyArray(Array):
        def __setstate__(self, state: Any) -> None:
            _, shape, kind, fortran, data = state
            self.value = _numpy_array(data, kind.dtype(), shape, "F" if fortran else "C")

    def reconstruct_array(*_: Any) -> Array:
        return NumpyArray()

    def array_from_buffer(data: Any, kind: Any, shape: Any, order: Any) -> Array:
        array = NumpyArray()
        array.value = _numpy_array(bytes(data), kind.dtype(), shape, order)
        return array

    def scalar(kind: Any, data: Any) -> Any:
        return _numpy_array(data, kind.dtype(), (), "C").item()

    known: dict[str, Any] = {"numpy.ndarray": NumpyArray, "numpy.dtype": NumpyType}
    for package in ("numpy.core", "numpy._core"):
        known |= {
            f"{package}.multiarray._reconstruct": reconstruct_array,
            f"{package}.multiarray.scalar": scalar,
            f"{package}.numeric._frombuffer": array_from_buffer,
        }
    return known


def _number_type(code: Any) -> np.dtype[Any]:
    if not isinstance(code, str) or not _NUMBER.fullmatch(code):
        kind = "object" if isinstance(code, str) and code.lstrip("<>=|").startswith("O") else shown(code)
        raise _RefusedError(f"it has a numpy array of type {kind}, and only arrays of numbers are read")
    return np.dtype(code)


def _numpy_array(data: Any, dtype: np.dtype[Any], shape: Any, order: Any) -> NDArray[Any]:
    """A view of `data`."""
    _refuse_shape(shape)
    if not isinstance(data, bytes) or math.prod(shape) * dtype.itemsize != len(data):
        held = f"{len(data)} bytes" if isinstance(data, bytes) else f"a {type(data).__name__}"
        raise _RefusedError(f"it has an array of shape {shown(shape)} and type {dtype} in {held}")
    return np.frombuffer(data, dtype).reshape(shape, order=order)


def _torch_storage(data: Any) -> Tensor:
    """The numbers in what `torch.save` wrote of a storage."""
    if not isinstance(data, bytes):
        raise _RefusedError(f"it has a storage in a {type(data).__name__}")
    try:
        found = checkpoint_of(data, "a storage in it")
    except ValueError as error:
        raise _RefusedError(str(error)) from None
    if not isinstance(found, torch.TypedStorage):
        raise _RefusedError(f"where a storage was expected it has a {type(found).__name__}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # this kind of storage is to go, and the files have no other
        return torch.empty(0, dtype=found.dtype).set_(found.untyped())


def _torch_tensor(numbers: Any, offset: Any, shape: Any, strides: Any) -> Tensor:
    """A view of `numbers`."""
    _refuse_shape(shape)
    _refuse_shape(strides)
    whole = isinstance(numbers, Tensor) and isinstance(offset, int) and len(shape) == len(strides)
    last = offset + sum((length - 1) * stride for length, stride in zip(shape, strides, strict=False)) if whole else 0
    if not whole or math.prod(shape) > len(numbers) or not 0 <= offset <= last < max(1, len(numbers)):
        raise _RefusedError(f"it has a tensor of shape {shown(shape)} that is larger than its storage")
    return numbers.as_strided(shape, strides, offset)


def _refuse_shape(shape: Any) -> None:
    whole = isinstance(shape, tuple) and len(shape) <= MOST_DIMENSIONS
    if not whole or not all(type(length) is int and length >= 0 for length in shape):
        raise _RefusedError(f"it has an array of shape {shown(shape)}")
