from __future__ import annotations

from pathlib import Path

import datasets
import numpy as np
import pytest

from ddpm_seg.data.exports import huggingface
from ddpm_seg.data.exports.huggingface import write_huggingface
from ddpm_seg.markdown_text import markdown_table
from tests.data.exports.drawn import TASK, pictures, pixels_of


def test_datasets_loads_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface, "ROWS", 3)
    write_huggingface(iter(pictures()), TASK, str(tmp_path / "out"))
    assert len(list((tmp_path / "out" / "data").iterdir())) == 2
    loaded = datasets.load_dataset(str(tmp_path / "out"), split="train", cache_dir=str(tmp_path / "cache"))
    assert isinstance(loaded.features["mask"], datasets.Image)
    for one, row in zip(pictures(), loaded, strict=True):
        assert np.array_equal(np.asarray(row["mask"]), one.mask)
        assert np.array_equal(np.asarray(row["image"]), pixels_of(one))
        assert (row["uri"], row["model_id"]) == (one.uri, one.model_id)
        assert row["uncertainty"] == pytest.approx(one.uncertainty)
    card = (tmp_path / "out" / "README.md").read_text()
    assert markdown_table(["id", "class"], ([str(i), name] for i, name in enumerate(TASK.class_names))) in card
