"""The options of label and generate: what they share is checked once, and they load without torch and Ray."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import pytest

from ddpm_seg.pipeline.generate.config import GenerateConfig
from ddpm_seg.pipeline.label.config import LabelConfig
from ddpm_seg.pipeline.run_options import RunOptions

CONFIGS = [LabelConfig, GenerateConfig]


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shard_size": 0}, "--shard-size must be at least 1, got 0"),
        ({"chunk_size": 0}, "--chunk-size must be at least 1, got 0"),
        ({"batch_size": -1}, "--batch-size must be at least 1, got -1"),
        ({"num_actors": 0}, "--num-actors must be at least 1, got 0"),
        ({"output": "s3://key:hidden@b/out"}, "s3://b/out: a URI must not contain credentials"),
        ({"output": "https://u:hidden@b/out?token=hidden"}, "https://b/out: .* not listed or written"),
        ({"gpus_per_actor": 1.5}, "--gpus-per-actor must be above 0 and at most 1, got 1.5"),
        ({"gpus_per_actor": float("nan")}, "--gpus-per-actor must be above 0"),
        ({"wait_for_gpus": 3.0}, "--wait-for-gpus 3: expected minutes, at least 0, together with --num-actors"),
        ({"num_actors": 1, "wait_for_gpus": -1.0}, "--wait-for-gpus -1: expected minutes, at least 0"),
        ({"expect_model_id": ""}, "--expect-model-id must be a model_id"),
    ],
)
def test_what_no_run_can_have_is_refused(config: type[RunOptions], options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize(("config", "first"), [(LabelConfig, "input"), (GenerateConfig, "model")])
def test_every_job_has_the_shared_options_after_its_own(config: type[RunOptions], first: str) -> None:
    names = [field.name for field in dataclasses.fields(config)]
    assert names[0] == first
    assert names[: len(config.__annotations__)] == list(config.__annotations__)
    assert {field.name for field in dataclasses.fields(RunOptions)} <= set(names)
    changed = dataclasses.replace(config(), output="/elsewhere")
    assert changed.output == "/elsewhere"
    assert dataclasses.asdict(changed).keys() == set(names)


def test_options_need_neither_torch_nor_ray() -> None:
    imports = "import sys, ddpm_seg.pipeline.label.config, ddpm_seg.pipeline.generate.config"
    code = f"{imports}; sys.exit(any(name in sys.modules for name in ('torch', 'ray')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
