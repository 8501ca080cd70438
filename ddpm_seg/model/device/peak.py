"""Measures how much a network keeps in memory at its peak, on torch's "meta" device: nothing is computed."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


@torch.no_grad()
def peak_values(run: Callable[[], object]) -> int:
    """The most values that the tensors made by `run` hold at once. Its network must be on the meta device.

    Attention counts as torch's fused kernels run it: without a matrix of all pairs of tokens.
    """
    memory = _Memory()
    with _FusedAttention(), memory, torch.device("meta"):
        result = run()  # what it returns is alive at the end, as for a caller
    del result
    return memory.peak


class _Memory(TorchDispatchMode):
    """Counts the values in the storages that operations make, for as long as these live."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self.seen: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for value in tree_leaves((args, kwargs)):  # what no operation made, such as weights, does not count
            if isinstance(value, Tensor):
                self.seen.setdefault(value.untyped_storage()._cdata, value.untyped_storage())
        found = func(*args, **(kwargs or {}))
        for value in tree_leaves(found):
            if isinstance(value, Tensor) and value.untyped_storage()._cdata not in self.seen:
                self._count(value)
        return found

    def _count(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        self.seen[storage._cdata] = storage
        values = storage.nbytes() // tensor.element_size()
        self.now += values
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._free, values)

    def _free(self, values: int) -> None:
        self.now -= values


class _FusedAttention(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is F.scaled_dot_product_attention:
            query, _, value = (*args, *(kwargs or {}).values())[:3]
            return query.new_empty(*query.shape[:-1], value.shape[-1])
        return func(*args, **(kwargs or {}))
