from __future__ import annotations

import json
from pathlib import Path

import pytest

from ddpm_seg.model.bundle.ensemble_bundle import save_bundle
from ddpm_seg.model.features import FeatureConfig
from ddpm_seg.model.networks.diffusion.unet import UNetConfig
from jobs import benchmark
from tests.model import tiny_networks


@pytest.fixture
def model(tmp_path: Path) -> str:
    config = UNetConfig(
        image_size=32, num_channels=32, num_res_blocks=1, channel_mult=(1, 2), attention_resolutions=(16,), num_heads=2
    )
    save_bundle(tiny_networks.bundle(config, FeatureConfig(steps=(50, 150), blocks=(0, 2))), str(tmp_path / "model"))
    return str(tmp_path / "model")


@pytest.mark.slow
def test_a_table_and_a_file(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert benchmark.main(["--model", model, "--rounds", "1", "--output", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "| float32 | head |" in shown
    assert "| bfloat16 | segmentation |" in shown
    found = json.loads((tmp_path / "benchmark.json").read_text())
    assert [one["dtype"] for one in found["models"]] == ["float32", "bfloat16"]
    for one in found["models"]:
        assert one["images_per_hour"] > 0
        assert 0.9 < one["equal_pixels"] <= 1
    assert found["labelling"] is None


@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.slow
def test_labelling_from_files_to_tables(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert benchmark.main(["--model", model, "--rounds", "1", "--dtypes", "float32", "--label", "3"]) == 0
    assert "from files to tables" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--rounds", "0"], "--rounds must be at least 1, got 0"),
        (["--label", "-1"], "--label must be at least 0, got -1"),
        (["--model", "no-such"], "no-such"),
    ],
)
def test_wrong_use_is_one_line(flags: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        status = benchmark.main(flags)
    except SystemExit as error:
        status = error.code  # type: ignore[assignment]
    shown = capsys.readouterr().err
    assert status == 2
    assert message in shown
