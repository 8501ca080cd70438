from __future__ import annotations

from pathlib import Path

import pytest

from ddpm_seg.model.bundle.ensemble_bundle import save_bundle
from jobs.generate import main
from tests.model.tiny_networks import TINY_MAE, backbone_bundle
from tests.tiny_bundle import tiny_bundle


@pytest.fixture
def arguments(tmp_path: Path) -> list[str]:
    save_bundle(tiny_bundle(), str(tmp_path / "model"))
    return ["--model", str(tmp_path / "model"), "--output", str(tmp_path / "out"), "--num-samples", "5", "--steps", "3"]


def test_the_command_draws_and_says_where(
    ray_cluster: str, arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 0
    shown = capsys.readouterr().out
    assert "5 samples drawn, 0 errors, " in shown
    assert f"samples  {tmp_path}/out/samples/config=" in shown
    assert f"report   {tmp_path}/out/runs/run-000001/report.html" in shown
    assert main(arguments) == 0
    assert "nothing new to draw\n5 drawn before" in capsys.readouterr().out


def test_a_dry_run_says_what_would_be_done_and_writes_nothing(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments, "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "samples    5 of seed 0" in shown
    assert "new        5 in 1 shards" in shown
    assert "timesteps  80, 20, 0" in shown
    assert "labels     2 members" in shown
    assert not (tmp_path / "out").exists()


def test_a_network_that_is_no_ddpm_draws_nothing(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_bundle(backbone_bundle(TINY_MAE), str(tmp_path / "mae"))
    assert main([*arguments, "--model", str(tmp_path / "mae")]) == 2
    assert "needs a network that draws images, such as a DDPM, and the bundle holds a MAE" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--num-samples", "0"], "--num-samples must be at least 1"),
        (["--sampler", "euler"], "dpm-solver++"),
        (["--steps", "1"], "sampling needs at least 2 steps"),
        (["--model", "/not/there"], "/not/there"),
    ],
)
def test_wrong_use_is_one_message_and_status_2(
    flags: list[str], message: str, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        status = main([*arguments, *flags])
    except SystemExit as stop:
        status = int(str(stop.code))
    assert status == 2
    shown = capsys.readouterr().err
    assert message in " ".join(shown.split())
    assert "Traceback" not in shown
