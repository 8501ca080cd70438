"""The set of keys answers as a dictionary does, and takes 24 bytes per image."""

from __future__ import annotations

import random
import tracemalloc

import numpy as np
import pytest

from ddpm_seg.runs import key_set
from ddpm_seg.runs.key_set import KEY_BYTES, NAME_BYTES, KeySet


@pytest.mark.parametrize("seed", range(20))
def test_of_each_name_the_last_key_counts(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    chance = random.Random(seed)
    monkeypatch.setattr(key_set, "_AT_ONCE", chance.randint(1, 9))
    names = [chance.randbytes(NAME_BYTES - 1) + chance.choice([b"\0", b"\1"]) for _ in range(chance.randint(1, 40))]
    versions = [chance.randbytes(7) + b"\0" for _ in range(3)]
    given = [chance.choice(names) + chance.choice(versions) for _ in range(chance.choice([0, 1, 60]))]
    middle = chance.randint(0, len(given))
    keys = KeySet([given[:middle], [], given[middle:]])
    last = {key[:NAME_BYTES]: key for key in given}
    assert len(keys) == len(last)
    asked = [name + version for name in names for version in versions]
    assert keys.has(asked).tolist() == [last.get(key[:NAME_BYTES]) == key for key in asked]
    assert keys.has_names(names).tolist() == [name in last for name in names]
    some = chance.sample(names, len(names) // 2)
    assert KeySet.of_names(b"".join(some)).has_names(names).tolist() == [name in some for name in names]


def test_many_versions_of_many_images_stay_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_set, "_AT_ONCE", 1 << 12)
    images, versions = 100_000, 3
    rows = np.random.default_rng(0).integers(0, 256, (versions, images, KEY_BYTES), dtype=np.uint8)
    rows[:, :, :NAME_BYTES] = rows[0, :, :NAME_BYTES]
    tracemalloc.start()
    keys = KeySet([bytes(row) for row in batch] for part in rows for batch in np.array_split(part, 50))
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(keys) == images
    assert held < 1.2 * KEY_BYTES * images
    assert peak < 1.3 * (KEY_BYTES + 4) * images * versions
