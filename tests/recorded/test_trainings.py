"""Trainings that version 6f6d309 left unfinished are continued, or start over with a message."""

from __future__ import annotations

import importlib
import logging
import re
from pathlib import Path

import pytest
import torch

from ddpm_seg import storage
from ddpm_seg.model.trained import load_model
from tests.recorded.recorded import FACTS, PREFIX, unpack, upload

TRAININGS = FACTS["trainings"]
PLACE = f"{PREFIX}/trainings"


@pytest.fixture(scope="module")
def trainings(s3_endpoint: object, tmp_path_factory: pytest.TempPathFactory) -> str:
    upload(unpack("trainings", tmp_path_factory.mktemp("trainings")), PLACE)
    return PLACE


def finish(name: str, output: str) -> dict[str, torch.Tensor]:
    """Runs the training's own command; all tensors of the bundle that it ends with."""
    training = TRAININGS[name]
    assert importlib.import_module(f"jobs.{training['job']}").main([*training["flags"], "--output", output]) == 0
    bundle = load_model(output)
    members = {
        f"{i}.{key}": value for i, one in enumerate(getattr(bundle, "members", ())) for key, value in one.items()
    }
    return {**bundle.weights, **members}


# A student has eleven million weights, whatever it learns from.
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name == "distill" else name for name in sorted(TRAININGS)]
)
def test_an_unfinished_training_is_finished(
    trainings: str, name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    output = f"{trainings}/{name}"
    assert list(storage.list_files(output))
    with caplog.at_level(logging.INFO):
        tensors = finish(name, output)
    assert re.search(r"resumed|anew", caplog.text)
    assert all(tensor.isfinite().all() for tensor in tensors.values())
    left = {file.uri.removeprefix(f"{output}/") for file in storage.list_files(output)}
    assert not [file for file in left if "unfinished" in file]
    if name in ("train", "pretrain_mae"):  # of the others, nothing but the form of the state was kept
        whole = finish(name, str(tmp_path / "whole"))
        for key, value in whole.items():
            torch.testing.assert_close(tensors[key], value, rtol=1e-2, atol=1e-2)
