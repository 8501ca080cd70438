"""Training on the masks that a person accepted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ddpm_seg import storage
from ddpm_seg.data.annotations.load import load_pairs
from ddpm_seg.data.table_pictures import encode_png
from ddpm_seg.tasks import TASKS
from ddpm_seg.training.ensemble.accepted import accepted_pairs
from tests.runs.nightly_runs import labelled, night
from tests.tiny_bundle import TASK


def rows(tmp_path: Path, shift: int = 0) -> dict[str, dict[str, Any]]:
    found = {}
    for number in range(3):
        storage.write_bytes(f"{tmp_path}/in/{number}.png", encode_png(np.zeros((10, 10, 3), np.uint8)))
        row = labelled(number, 0.1, **{TASK.class_names[number]: 1.0})
        mask = np.full((10, 10), number + shift, np.uint8)
        found[f"{number}.png"] = {**row, "mask": {"bytes": encode_png(mask), "path": None}}
    return found


def judge(tmp_path: Path, *lines: str) -> str:
    text = "".join(f"in/{line}\n" for line in lines)
    (tmp_path / "verdicts.csv").write_text(f"uri,verdict,run_id\n{text}")
    return str(tmp_path / "verdicts.csv")


def test_the_judged_masks_are_learnt_from_though_another_model_has_labelled_since(tmp_path: Path) -> None:
    labels, prefix = str(tmp_path / "labels"), f"{tmp_path}/in"
    night(labels, 1, rows(tmp_path), prefix=prefix)
    night(labels, 2, rows(tmp_path, 1), prefix=prefix, config_hash="d")
    only = judge(tmp_path, "0.png,accept,run-000001", "1.png,reject,run-000001", "2.png,accept,run-000001")
    found = load_pairs(accepted_pairs(labels, only, TASK, None), image_size=10, task=TASK)
    assert [(Path(one.uri).name, np.unique(one.label).tolist()) for one in found] == [("0.png", [0]), ("2.png", [2])]


def test_a_mask_that_nobody_judged_is_refused(tmp_path: Path) -> None:
    labels, prefix = str(tmp_path / "labels"), f"{tmp_path}/in"
    night(labels, 1, rows(tmp_path), prefix=prefix)
    night(labels, 2, rows(tmp_path, 1), prefix=prefix)
    with pytest.raises(ValueError, match="run-000002 has labelled it again"):
        accepted_pairs(labels, judge(tmp_path, "0.png,accept,run-000001"), TASK, None)
    assert len(accepted_pairs(labels, judge(tmp_path, "0.png,accept,run-000002"), TASK, None)) == 1


def test_other_classes_are_refused(tmp_path: Path) -> None:
    labels = str(tmp_path / "labels")
    night(labels, 1, rows(tmp_path), prefix=f"{tmp_path}/in")
    with pytest.raises(ValueError, match="holds masks of the task"):
        accepted_pairs(labels, judge(tmp_path, "0.png,accept,"), TASKS["avatars_10"], None)


def test_a_folder_of_annotated_images_is_narrowed_to_the_list(tmp_path: Path) -> None:
    rows(tmp_path)
    for number in range(3):
        np.save(tmp_path / f"in/{number}.npy", np.full((10, 10), number))
    (tmp_path / "list.txt").write_text("in/1.png\n")
    pairs = accepted_pairs(str(tmp_path / "in"), str(tmp_path / "list.txt"), TASK, None)
    assert [Path(pair.image).name for pair in pairs] == ["1.png"]
