from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from ddpm_seg.model.device.fitting_batch import FittingBatch

CPU = torch.device("cpu")


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8, 100])
@pytest.mark.parametrize("room", [1, 2, 3, 7])
def test_every_result_comes_once_and_in_order_whatever_fits(size: int, room: int) -> None:
    batch, asked = FittingBatch(size, CPU, what="image"), list[tuple[int, int]]()

    def work(first: int, size: int) -> list[int]:
        asked.append((first, size))
        if size > room:
            raise torch.OutOfMemoryError
        return list(range(first, min(first + size, 11)))

    assert list(batch.run(11, work)) == list(range(11))
    assert batch.size <= room
    assert batch.size == size or 2 * batch.size + 1 > room  # no smaller than need be
    asked.clear()
    assert list(batch.run(11, work)) == list(range(11))
    assert {size for _, size in asked} == {batch.size}  # for good


def test_what_came_before_memory_ran_out_is_not_asked_for_again() -> None:
    batch, made = FittingBatch(8, CPU, what="image"), list[int]()

    def work(first: int, size: int) -> Iterator[int]:
        for number in range(first, min(first + size, 10)):
            if size > 2 and number == 3:
                raise torch.OutOfMemoryError
            made.append(number)
            yield number

    assert list(batch.run(10, work)) == made == list(range(10))


def test_the_failed_batch_is_let_go_before_the_next_one_is_begun() -> None:
    batch, held = FittingBatch(2, CPU, what="image"), list[weakref.ref[np.ndarray]]()

    def work(first: int, size: int) -> list[int]:
        large = np.zeros(10)
        assert [ref() for ref in held] == [None] * len(held)
        held.append(weakref.ref(large))
        if size > 1:
            raise torch.OutOfMemoryError
        return [first]

    gc.disable()  # reference counts alone must do it: nothing collects a cycle in time
    try:
        assert list(batch.run(2, work)) == [0, 1]
    finally:
        gc.enable()


def test_no_memory_for_one_names_device_and_item() -> None:
    def work(first: int, size: int) -> list[int]:
        raise torch.OutOfMemoryError(f"{size} at {first}")

    with pytest.raises(torch.OutOfMemoryError, match="CPU has too little memory even for one 8 x 8 image: 1 at 0"):
        list(FittingBatch(4, CPU, what="8 x 8 image").run(3, work))


def test_nothing_to_do_and_sizes_below_one() -> None:
    assert list(FittingBatch(1, CPU, what="image").run(0, lambda first, size: [first])) == []
    for size in (0, -3):
        with pytest.raises(ValueError, match=f"batch_size must be at least 1, got {size}"):
            FittingBatch(size, CPU, what="image")
