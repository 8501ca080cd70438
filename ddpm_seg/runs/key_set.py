"""The last key of each of many million images, 24 bytes each: sorted in one array, looked up batch by batch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

NAME_BYTES, KEY_BYTES = 16, 24

_NUMBER_BYTES = 4
"""While a set is made, each key has its place in the order that it came in, between name and version."""

_AT_ONCE = 1 << 16  # keys that are copied at once

Keys = NDArray[np.bytes_]


class KeySet:
    """An immutable set of keys (see `ledger.input_keys`): the first 16 bytes of a key say which image it is about, the
    rest which version of it. Of several keys of an image, the set has only the last one.

    Memory: 24 bytes per image; while it is made, 28 bytes per key.
    """

    def __init__(self, parts: Iterable[Iterable[bytes]]) -> None:
        held, number = bytearray(), 0  # grows in place, so that no second copy is in memory
        for part in parts:
            keys = np.frombuffer(b"".join(part), np.uint8).reshape(-1, KEY_BYTES)
            held += _numbered(keys, number)
            number += len(keys)
        np.frombuffer(held, f"S{KEY_BYTES + _NUMBER_BYTES}").sort()
        del held[_keep_last(held) :]
        self._keys = np.frombuffer(held, f"S{KEY_BYTES}")
        self._names: NDArray[np.uint8] = np.frombuffer(held, np.uint8).reshape(-1, KEY_BYTES)[:, :NAME_BYTES]

    @classmethod
    def of_names(cls, names: bytes | bytearray) -> KeySet:
        """A set for `has_names`, of these first 16 bytes of keys, one after another."""
        step = NAME_BYTES * _AT_ONCE
        return cls([_with_zeros(names[start : start + step]).tobytes()] for start in range(0, len(names), step))

    def __len__(self) -> int:
        return len(self._keys)

    def has(self, keys: list[bytes]) -> NDArray[np.bool_]:
        """Which of these keys are in the set."""
        asked: Any = np.frombuffer(b"".join(keys), f"S{KEY_BYTES}")
        return self._found(asked, lambda places, order: self._keys[places] == asked[order])

    def has_names(self, names: list[bytes]) -> NDArray[np.bool_]:
        """For each of these first 16 bytes, whether the set has a key that begins with them."""
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


def _numbered(keys: NDArray[np.uint8], first: int) -> bytes:
    """The keys, (keys, KEY_BYTES), with the numbers from `first` on after their names, highest byte first."""
    numbers = np.arange(first, first + len(keys), dtype=">u4").view(np.uint8).reshape(-1, _NUMBER_BYTES)
    return np.hstack([keys[:, :NAME_BYTES], numbers, keys[:, NAME_BYTES:]]).tobytes()


def _keep_last(held: bytearray) -> int:
    """Moves the last of the sorted `_numbered` keys of each name to the front, without numbers; returns their size in
    bytes."""
    rows, size = np.frombuffer(held, np.uint8).reshape(-1, KEY_BYTES + _NUMBER_BYTES), 0
    front = rows.reshape(-1)
    for start in range(0, len(rows), _AT_ONCE):
        names = rows[start : start + _AT_ONCE + 1, :NAME_BYTES]
        last = (names[1:] != names[:-1]).any(axis=1)
        if len(names) <= _AT_ONCE:
            last = np.append(last, True)
        kept = rows[start : start + _AT_ONCE][last]  # a copy: what is written overlaps what was read
        keys = np.delete(kept, np.s_[NAME_BYTES : NAME_BYTES + _NUMBER_BYTES], axis=1)
        front[size : size + keys.size] = keys.reshape(-1)
        size += keys.size
    return size
