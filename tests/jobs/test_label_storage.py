"""The label job reports storage that it cannot use, and finds the S3 endpoint under either variable's name."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ddpm_seg import storage
from ddpm_seg.model.bundle.ensemble_bundle import save_bundle
from ddpm_seg.storage import stores
from jobs.label import main
from tests.seaweedfs import S3Server
from tests.tiny_bundle import tiny_bundle


@pytest.fixture
def fresh_clients() -> Iterator[None]:
    stores._open_filesystem.cache_clear()
    yield
    stores._open_filesystem.cache_clear()


@pytest.fixture
def local(tmp_path: Path) -> dict[str, str]:
    save_bundle(tiny_bundle(), str(tmp_path / "model"))
    (tmp_path / "in").mkdir()
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(tmp_path / "in" / "a.png")
    return {name: str(tmp_path / folder) for name, folder in [("input", "in"), ("output", "out"), ("model", "model")]}


@pytest.mark.usefixtures("fresh_clients")
@pytest.mark.parametrize("place", ["input", "output"])
@pytest.mark.parametrize(
    ("bucket", "secret", "reason"),
    [("absent", None, "the bucket does not exist"), ("data", "never-to-be-printed", "check AWS_ACCESS_KEY_ID")],
)
def test_a_missing_bucket_and_wrong_credentials_are_one_message(
    s3: Callable[[], str],
    local: dict[str, str],
    place: str,
    bucket: str,
    secret: str | None,
    reason: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    uri = s3().replace("//data/", f"//{bucket}/")
    if secret:
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
    assert main([f"--{name}={value}" for name, value in (local | {place: uri}).items()]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert uri in line
    assert reason in line
    assert "never-to-be-printed" not in line


@pytest.mark.slow
def test_the_endpoint_of_s3_alone_is_enough(
    s3_endpoint: S3Server, s3: Callable[[], str], local: dict[str, str], tmp_path: Path
) -> None:
    root = s3()
    storage.write_bytes(f"{root}/in/a.png", (tmp_path / "in" / "a.png").read_bytes())
    arguments = local | {"input": f"{root}/in", "output": f"{root}/out"}
    environment = {name: value for name, value in os.environ.items() if name not in ("AWS_ENDPOINT_URL", "RAY_ADDRESS")}
    environment |= {"AWS_ENDPOINT_URL_S3": s3_endpoint.endpoint, "RAY_AUTH_MODE": "disabled"}
    command = [sys.executable, "-m", "jobs.label", *(f"--{name}={value}" for name, value in arguments.items())]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280)
    assert result.returncode == 0, result.stderr
    assert "1 images: 1 labelled, 0 errors" in result.stdout


def test_a_name_cannot_move_the_cursor_or_add_a_line(
    local: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evil = str(tmp_path / "no such\x1b[2J folder\nerror: all is well\udcff")
    assert main([f"--{name}={value}" for name, value in (local | {"input": evil}).items()]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.isprintable()
    assert r"no such\x1b[2J folder\nerror: all is well\udcff" in line
    assert main([f"--{name}={value}" for name, value in local.items()] + ["--dry-run"]) == 0
