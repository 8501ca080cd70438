"""What a probe found narrows what --tune tries."""

from __future__ import annotations

from pathlib import Path

import pytest

from ddpm_seg.data.annotations.load import load_annotations
from ddpm_seg.tasks import TASKS
from ddpm_seg.training.ensemble.ensemble_training import EnsembleConfig
from ddpm_seg.training.ensemble.probed import probed_candidates
from ddpm_seg.training.ensemble.tuning import FOLDS, tune
from jobs import train
from tests.annotated_boxes import annotate
from tests.tiny_bundle import tiny_bundle

HEAD = "step,block,miou,deviation,small_classes,large_classes\n"
NETWORK = tiny_bundle().network


def probe(folder: Path, scores: dict[tuple[int | str, int], float]) -> str:
    folder.mkdir()
    rows = [f"{step},{block},{score},,0.1,0.2\n" for (step, block), score in scores.items()]
    (folder / "probe.csv").write_text(HEAD + "".join(rows))
    return str(folder)


def test_the_four_best_steps_and_the_good_blocks_are_tried(tmp_path: Path) -> None:
    scores = {(step, block): 0.2 for step in (1, 2, 3, 4, 5) for block in (0, 1)}
    scores |= {(step, 2): 0.1 * step + 0.1 for step in (1, 2, 3, 4, 5)}
    scores[2, 1] = 0.35
    assert probed_candidates(probe(tmp_path / "p", scores), NETWORK) == ((2, 3, 4, 5), (1, 2))
    without = probe(tmp_path / "q", {("", 0): 0.3, ("", 1): 0.1, ("", 2): 0.2})
    with pytest.raises(ValueError, match="need at least one step"):  # it is of another kind of network
        probed_candidates(without, NETWORK)


def test_tuning_keeps_to_the_candidates(tmp_path: Path) -> None:
    annotate(tmp_path / "images", FOLDS)
    annotations = load_annotations(str(tmp_path / "images"), image_size=16, task=TASKS["avatars_10"])
    trials = tune(
        tiny_bundle(),
        annotations,
        TASKS["avatars_10"],
        upsample_mode="bilinear",
        device="cpu",
        candidates=((5, 20), (1, 2)),
        training=EnsembleConfig(members=1, iterations=5, standardize=False),
    )
    assert {step for one in trials for step in one.steps} == {5, 20}
    assert {one.blocks for one in trials} == {(1, 2), (1,), (2,)}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("step,block\n1,2\n", "is not the table of a probe"),
        (HEAD, "is not the table"),
        (HEAD + "1,99,0.5,,,\n", "0..3"),
    ],
)
def test_what_is_no_probe_of_this_network_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "probe.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        probed_candidates(str(tmp_path), NETWORK)


def test_a_probe_without_tune_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        train.main(["--model", "m", "--images", "i", "--task", "avatars_10", "--output", "o", "--probe", "p"])
    assert end.value.code == 2
    assert "give --tune too" in capsys.readouterr().err
