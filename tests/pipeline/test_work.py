"""What label and generate record about a run in the same way: manifest options, run.json, the actor's arguments."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from ddpm_seg.cluster.nodes import Allocation
from ddpm_seg.pipeline.generate.config import GenerateConfig
from ddpm_seg.pipeline.generate.job import GenerateWork
from ddpm_seg.pipeline.generate.plan import plan_generate
from ddpm_seg.pipeline.label.config import LabelConfig
from ddpm_seg.pipeline.label.job import LabelWork
from ddpm_seg.pipeline.label.plan import plan_label
from ddpm_seg.pipeline.run_options import RunOptions
from ddpm_seg.pipeline.work import Work, actor_arguments, stored_config

MODEL_ID = "0" * 16
ALLOCATION = Allocation(actors=3, actor_cpus=1, actor_gpus=0, threads=2, task_cpus=1)


@pytest.fixture
def works(tmp_path: Path) -> list[Work]:
    output = str(tmp_path / "out")
    label = LabelWork(plan_label(LabelConfig(output=output)))
    generate = GenerateWork(plan_generate(GenerateConfig(output=output, chunk_size=8)))
    return [label, generate]


def test_a_manifest_keeps_every_option_but_what_is_asked_of_one_call(works: list[Work]) -> None:
    asked = {"dry_run", "expect_model_id", "price_per_hour"}
    for work, more in zip(works, [{"retried_errors", "domain_distance"}, set()], strict=True):
        names = {field.name for field in dataclasses.fields(work.found.config)}
        of_others = {"truncation", "image_key", "image_column", "uri_column"} & names  # networks and inputs
        assert set(work.stored()) == names - asked - of_others | more
        assert work.stored()["output"] == work.found.run.output
        assert work.details()["model_id"] == work.found.header.model_id


@pytest.mark.parametrize(
    ("options", "uris"),
    [
        (LabelConfig(input="s3://key:hidden@b/photos"), ("input", "output", "model")),
        (GenerateConfig(real="https://b/x?X-Amz-Signature=hidden"), ("real", "output")),
    ],
)
def test_no_secret_of_an_option_is_kept(options: RunOptions, uris: tuple[str, ...]) -> None:
    stored = stored_config(options, *uris)
    assert "hidden" not in str(stored)
    assert stored["chunk_size"] == options.chunk_size


def test_actors_of_every_job_get_the_same_options() -> None:
    for config in (LabelConfig(batch_size=5), GenerateConfig(batch_size=5)):
        found = actor_arguments(config, MODEL_ID, ALLOCATION)
        expected = {"model": "avatars-10", "model_id": MODEL_ID, "dtype": "float32", "batch_size": 5}
        assert found == {**expected, "compile": False, "threads": 2}


def test_small_inputs_are_cut_finer_and_samples_never(works: list[Work]) -> None:
    label, generate = works
    images = label.found.run.new.num_rows
    assert label.chunk_size(1) == -(-images // 20)
    assert label.chunk_size(images) == 1
    assert generate.chunk_size(1) == generate.chunk_size(1000) == 8
