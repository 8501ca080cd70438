from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ddpm_seg import read_labels
from ddpm_seg.model.bundle.ensemble_bundle import save_bundle
from jobs import compact, label
from tests.tiny_bundle import tiny_bundle


def test_nights_are_compacted_and_the_next_one_goes_on_there(
    ray_cluster: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_bundle(tiny_bundle(), str(tmp_path / "model"))
    (tmp_path / "in").mkdir()
    arguments = [f"--input={tmp_path / 'in'}", f"--model={tmp_path / 'model'}"]
    for number in range(2):
        Image.fromarray(np.full((20, 30, 3), 80 * number, np.uint8)).save(tmp_path / "in" / f"{number}.png")
        assert label.main([*arguments, f"--output={tmp_path / 'out'}"]) == 0
    assert compact.main([f"--labels={tmp_path / 'out'}", f"--output={tmp_path / 'new'}"]) == 0
    assert "2 files, 2 rows -> 1 files, 2 rows" in capsys.readouterr().out
    assert read_labels(str(tmp_path / "new")).equals(read_labels(str(tmp_path / "out")))
    assert "0.png" in (tmp_path / "new" / "runs" / "run-000002" / "report.html").read_text()

    assert label.main([*arguments, f"--output={tmp_path / 'new'}"]) == 0
    assert "nothing new to label" in capsys.readouterr().out


@pytest.mark.parametrize("flags", [["--labels=nowhere", "--output=new"], ["--labels=a"], ["--labels=a", "--output=a"]])
def test_wrong_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: list[str]) -> None:
    monkeypatch.chdir(tmp_path)
    try:
        status: object = compact.main(flags)
    except SystemExit as error:
        status = error.code
    assert status == 2
