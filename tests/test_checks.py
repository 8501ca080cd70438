"""Every configuration refuses impossible numbers, and names a device that does not exist."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import ddpm_seg
from ddpm_seg.evaluation.tables.curation import CurateConfig
from ddpm_seg.evaluation.tables.export import ExportConfig
from ddpm_seg.model.device.choice import chosen_device
from ddpm_seg.pipeline.label.config import LabelConfig
from ddpm_seg.studies.compare import CompareConfig
from ddpm_seg.studies.evaluate import EvaluateConfig
from ddpm_seg.studies.reproduce.reproduce import ReproduceConfig
from ddpm_seg.studies.showcase import ShowcaseConfig
from ddpm_seg.training.ensemble.ensemble_training import EnsembleConfig
from ddpm_seg.training.ensemble.stopping import EarlyStopping
from ddpm_seg.training.ensemble.train_config import TrainConfig
from ddpm_seg.training.optimization import Optimization, StudentOptimization
from ddpm_seg.training.rivals.supervised import SupervisedConfig
from jobs import train

TRAIN = {"model": "m", "images": "i", "task": "t", "output": "o"}
COMPARE = {"model": "m", "train": ("i",), "task": "t", "output": "o"}


@pytest.mark.parametrize(
    ("config", "given", "wrong"),
    [
        (TrainConfig, TRAIN, [("iterations", 0), ("members", 0), ("limit", 0), ("recolour", -1), ("num_actors", -1)]),
        (TrainConfig, TRAIN, [("steps", ()), ("blocks", ()), ("seed", -1)]),
        (CompareConfig, COMPARE, [("splits", 0), ("shots", 0), ("recolour", -1)]),
        (EvaluateConfig, {"images": "i", "output": "o"}, [("limit", 0), ("splits", 0), ("shots", -1)]),
        (ReproduceConfig, {"datasets": "d", "checkpoints": "c", "output": "o"}, [("members", 0), ("iterations", 0)]),
        (ExportConfig, {"labels": "l", "to": "png", "output": "o"}, [("min_uncertainty", math.nan)]),
        (CurateConfig, {"samples": "s"}, [("drop_uncertain", math.nan), ("ignore_above", math.nan)]),
        (ShowcaseConfig, {"model": "m", "images": "i", "training_images": "t", "output": "o"}, [("seed", -1)]),
        (LabelConfig, {"num_actors": 1}, [("wait_for_gpus", math.nan), ("gpus_per_actor", math.nan), ("limit", 0)]),
        (Optimization, {}, [("learning_rate", math.nan), ("learning_rate", math.inf), ("batch_size", 0), ("seed", -1)]),
        (Optimization, {}, [("ema_decay", math.nan), ("iterations", 0)]),
        (StudentOptimization, {}, [("learning_rate", math.nan), ("epochs", 0), ("batch_size", 1), ("seed", -1)]),
        (EnsembleConfig, {}, [("learning_rate", 0.0), ("learning_rate", math.nan), ("weight_decay", -1.0)]),
        (SupervisedConfig, {}, [("batch_size", 0), ("iterations", 0), ("learning_rate", math.nan), ("dice", -1.0)]),
        (EarlyStopping, {}, [("max_epochs", 0), ("patience", -1)]),
    ],
)
def test_numbers_that_make_no_sense(
    config: Callable[..., object], given: dict[str, Any], wrong: list[tuple[str, Any]]
) -> None:
    config(**given)
    for name, value in wrong:
        with pytest.raises(ValueError, match=name.replace("_", ".")):
            config(**{**given, name: value})


@pytest.mark.parametrize("name", ["gpu", "cuda:99", "cpu:x", "", "meta", "0"])
def test_a_device_that_is_not_there(name: str) -> None:
    with pytest.raises(ValueError, match=f"device '{name}' cannot be used; expected cpu"):
        chosen_device(name)
    assert chosen_device("cpu").type == "cpu"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_one_line_before_any_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["--model", "nowhere", "--images", "nowhere", "--task", "avatars_10", "--output", str(tmp_path / "o")]
    assert train.main([*asked, "--device", "cuda"]) == 2
    assert capsys.readouterr().err == "error: device 'cuda' cannot be used; expected cpu, as there is no GPU here\n"
    with pytest.raises(ValueError, match="device 'gpu' cannot be used"):
        ddpm_seg.load("avatars-10", device="gpu")
