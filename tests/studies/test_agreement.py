"""Two annotators of the same images: how far they agree, and images that only one of them has."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ddpm_seg.commands.evaluate import main
from ddpm_seg.model.bundle.ensemble_bundle import save_bundle
from tests.schema_reference import check_keys
from tests.tiny_bundle import TASK, tiny_bundle


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Ann's masks, and Ben's under other names: he moves the edge of the box by one pixel."""
    save_bundle(tiny_bundle(), str(tmp_path / "model"))
    draw = np.random.default_rng(0)
    for index in range(3):
        image = draw.integers(0, 256, (40, 30, 3), dtype=np.uint8)
        for who, move in (("ann", 0), ("ben", 1)):
            mask = np.zeros((40, 30), np.uint8)
            mask[10 + move : 30 + move, 10:20] = 1
            (tmp_path / who).mkdir(exist_ok=True)
            Image.fromarray(image).save(tmp_path / who / f"{who}-{index}.png")
            np.save(tmp_path / who / f"{who}-{index}.npy", mask)
    return tmp_path


def arguments(folder: Path, second: str, *more: str) -> list[str]:
    places = {"--images": "ann", "--labels-of": second, "--model": "model", "--output": "out"}
    return [*(word for flag, name in places.items() for word in (flag, str(folder / name))), *more]


def test_they_agree_but_for_the_edge(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments(folder, "ben")) == 0
    found = json.loads((folder / "out" / "metrics.json").read_text())
    check_keys("metrics.json of two annotators", found)
    assert found["images"] == 3
    assert found["classes"][1]["usual_iou"] == pytest.approx(19 / 21)
    assert found["own_size"]["classes"][1]["boundary_iou_2px"] < 19 / 21
    assert f"{TASK.class_names[1]}" in capsys.readouterr().out


def test_an_annotator_agrees_with_himself(folder: Path) -> None:
    assert main(arguments(folder, "ann")) == 0
    found = json.loads((folder / "out" / "metrics.json").read_text())
    assert found["usual_miou"] == found["pixel_accuracy"] == found["own_size"]["boundary_iou"] == 1


def test_images_of_one_annotator_alone_are_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for suffix in ("png", "npy"):
        (folder / "ben" / f"ben-1.{suffix}").unlink()
    assert main(arguments(folder, "ben")) == 2
    assert "1 of 3 images of --images are not among those of --labels-of" in capsys.readouterr().err
    assert not (folder / "out" / "metrics.json").exists()


def test_a_model_has_no_part_in_it(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(arguments(folder, "ben", "--splits", "2"))
    assert end.value.code == 2
    assert "leave out --labels and --splits" in capsys.readouterr().err
