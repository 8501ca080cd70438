"""jobs.annotate: a network trained on real pictures annotates samples, in a form that jobs.train reads."""

from __future__ import annotations

import numpy as np
import pytest

from ddpm_seg.data.annotations.load import load_annotations
from ddpm_seg.studies import stand_in_annotator
from ddpm_seg.tasks import TASKS
from ddpm_seg.training.rivals.supervised import SupervisedConfig
from jobs.annotate import main
from tests.annotated_boxes import SIZE, annotate
from tests.boxed_samples import publish_boxes


def test_samples_come_back_annotated(tmp_path, monkeypatch, capsys) -> None:
    publish_boxes(tmp_path / "samples", 12)
    annotate(tmp_path / "plenty", 16, first=500)
    small = SupervisedConfig(width=8, levels=3, iterations=100)
    monkeypatch.setattr(stand_in_annotator, "SupervisedConfig", lambda seed: small)
    output = str(tmp_path / "annotated.parquet")
    named = ["--samples", str(tmp_path / "samples"), "--plenty", str(tmp_path / "plenty"), "--task", "avatars_10"]
    assert main([*named, "--output", output, "--limit", "10"]) == 0
    assert "10 samples annotated" in capsys.readouterr().out
    found = load_annotations(output, image_size=SIZE, task=TASKS["avatars_10"])
    assert [one.uri for one in found] == [f"sample:0/{number:09d}" for number in range(10)]
    right = [(one.label == (one.image[..., 1] > 128)).mean() for one in found]
    assert np.mean(right) > 0.9, right


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--output", "folder"], "--output must end with .parquet"),
        (["--samples", "/nowhere"], "no samples table under /nowhere"),
        (["--limit", "0"], "--limit must be at least 1"),
        (["--plenty", "/nowhere"], "/nowhere"),
    ],
)
def test_wrong_use_is_one_message_and_status_2(tmp_path, capsys, more, message) -> None:
    publish_boxes(tmp_path / "samples", 2)
    named = ["--samples", str(tmp_path / "samples"), "--plenty", str(tmp_path), "--task", "avatars_10"]
    try:
        status = main([*named, "--output", str(tmp_path / "a.parquet"), *more])
    except SystemExit as stop:
        status = int(str(stop.code))
    assert status == 2
    error = capsys.readouterr().err
    assert message in " ".join(error.split())
    assert "Traceback" not in error
    assert not (tmp_path / "a.parquet").exists()
