"""Compares the shapes of tensors in a file, by name, with those that a network needs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from ddpm_seg.model.json_values import shown

if TYPE_CHECKING:
    from torch import Tensor

Shapes = Mapping[str, tuple[int, ...]]

MOST_SHOWN = 3


def shapes_of(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """Shape of each tensor, by name."""
    return {key: tuple(tensor.shape) for key, tensor in tensors.items()}


def differences(found: Shapes, expected: Shapes) -> str:
    """Describes the first differences, short and on one line even for an untrusted file; "" if there are none."""
    wrong = [key for key, shape in expected.items() if key in found and found[key] != shape]
    details = [f"{key} is {shown(found[key])}, expected {expected[key]}" for key in wrong[:MOST_SHOWN]]
    if missing := expected.keys() - found.keys():
        details.append(f"it lacks {some(missing)}")
    if unknown := found.keys() - expected.keys():
        details.append(f"it has {some(unknown)}, which the network lacks")
    return "; ".join(details)


def some(names: Iterable[object]) -> str:
    """The first few names, and the number of further ones."""
    ordered = sorted(map(str, names))
    short = [name if name.isprintable() and len(name) <= 80 else shown(name) for name in ordered[:MOST_SHOWN]]
    rest = f" and {len(ordered) - MOST_SHOWN} more" if len(ordered) > MOST_SHOWN else ""
    return (", ".join(short) + rest) or "nothing"
