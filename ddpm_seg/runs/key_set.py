"""Sets of many million keys, 24 bytes each: sorted in one array, looked up batch by batch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

NAME_BYTES, KEY_BYTES = 16, 24

Keys = NDArray[np.bytes_]


class KeySet:
    """An immutable set of keys (see `ledger.input_keys`): the first 16 bytes of a key say which image it is about, the
    rest which version of it."""

    def __init__(self, parts: Iterable[Iterable[bytes]]) -> None:
        held = bytearray()  # grows in place, so that no second copy is in memory
        for part in parts:
            held += b"".join(part)
        self._keys = np.frombuffer(held, f"S{KEY_BYTES}")
        self._keys.sort()
        self._names: NDArray[np.uint8] = np.frombuffer(held, np.uint8).reshape(-1, KEY_BYTES)[:, :NAME_BYTES]

    @classmethod
    def of_names(cls, names: bytes | bytearray) -> KeySet:
        """A set for `has_names`, of these first 16 bytes of keys, one after another."""
        return cls([[_with_zeros(names).tobytes()]])

    def __len__(self) -> int:
        return len(self._keys)

    def has(self, keys: list[bytes]) -> NDArray[np.bool_]:
        """Which of these keys are in the set."""
        asked: Any = np.frombuffer(b"".join(keys), f"S{KEY_BYTES}")
        return self._found(asked, lambda places, order: self._keys[places] == asked[order])

    def has_names(self, names: list[bytes]) -> NDArray[np.bool_]:
        """For each of these first 16 bytes, whether the set has any key that begins with them."""
        smallest = _with_zeros(b"".join(names))
        return self._found(
            smallest.reshape(-1).view(f"S{KEY_BYTES}"),
            lambda places, order: (self._names[places] == smallest[order, :NAME_BYTES]).all(axis=1),
        )

    def _found(self, asked: Keys, equal: Any) -> NDArray[np.bool_]:
        found = np.zeros(len(asked), bool)
        if len(self):
            order = np.argsort(asked)  # in order, neighbouring searches touch the same memory
            places = np.searchsorted(self._keys, asked[order])
            found[order] = (places < len(self)) & equal(np.minimum(places, len(self) - 1), order)
        return found


def _with_zeros(names: bytes | bytearray) -> NDArray[np.uint8]:
    """The smallest key of each name, (names, KEY_BYTES)."""
    short = np.frombuffer(names, np.uint8).reshape(-1, NAME_BYTES)
    return np.pad(short, ((0, 0), (0, KEY_BYTES - NAME_BYTES)))
