"""Generated samples in the tools that the README names, by its own lines."""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from ddpm_seg.evaluation.tables.curation import CurateConfig, curate
from tests.boxed_samples import SIZE, publish_boxes

README = (Path(__file__).parents[1] / "jobs" / "README.md").read_text()


@pytest.fixture
def blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The README's Python that reads `samples`, in a folder where there are forty."""
    publish_boxes(tmp_path / "samples", 40)
    curate(CurateConfig(samples=str(tmp_path / "samples")))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "huggingface"))
    section = README[README.index("## Generate\n") : README.index("### Curate\n")]
    return re.findall(r"```python\n(.*?)```", section, flags=re.DOTALL)


def test_pandas(blocks: list[str]) -> None:
    found: dict = {}
    exec(blocks[0], found)
    assert len(found["table"]) == 36  # without the most uncertain tenth
    frame = found["frame"]
    assert frame["uncertainty"].max() < 0.036
    assert {"image", "mask", "seed", "number", "sampler"} <= set(frame.columns)


def test_datasets_and_torch(blocks: list[str]) -> None:
    found: dict = {}
    exec(blocks[1], found)
    batch = found["batch"]
    assert batch["image"].shape == (8, 3, SIZE, SIZE)
    assert batch["mask"].shape == (8, 1, SIZE, SIZE)
    assert batch["image"].dtype == batch["mask"].dtype == torch.uint8
    assert torch.equal(batch["image"][:, :1, 1:] > 128, batch["mask"][:, :, 1:] == 1)
    assert len(found["samples"]) == 36
    picture = found["data"][0]["image"]  # as datasets itself shows it
    buffer = io.BytesIO()
    picture.save(buffer, "png")
    assert np.asarray(picture).shape == (SIZE, SIZE, 3)
