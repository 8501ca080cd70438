from __future__ import annotations

import shlex

import pytest

from ddpm_seg.evaluation.pages.report_words import commands
from ddpm_seg.runs.layout import RunLayout
from ddpm_seg.tasks import TASKS, Task
from ddpm_seg.training.ensemble.train_config import TrainConfig
from tests.tiny_bundle import TASK as OWN

LAYOUT = RunLayout(output="/labels", table="labels", config_hash="c", run_id="run-000001")


@pytest.mark.parametrize(("task", "named"), [(TASKS["avatars_10"], "avatars_10"), (OWN, "tiny-5.yaml")])
def test_the_command_that_learns_from_accepted_masks_names_a_task_that_train_takes(task: Task, named: str) -> None:
    found = commands(LAYOUT, {"config": {"model": "m", "input": "photos"}}, task)["meanings"]
    (train,) = (line for _, _, lines in found for line in lines if line.startswith("ddpm-seg train "))
    words = shlex.split(train)[2:]
    options = {name.removeprefix("--"): value for name, value in zip(words[::2], words[1::2], strict=True)}
    assert TrainConfig(**options).task == named
