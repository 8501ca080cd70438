"""A bundle is replaced after the plan is made: no row names a model that did not make it."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import jobs.evaluate
import jobs.generate
import jobs.label
from ddpm_seg import storage
from ddpm_seg.cluster import nodes
from ddpm_seg.errors import StageError
from ddpm_seg.evaluation.scores.quality import write_quality
from ddpm_seg.model.bundle import ensemble_bundle
from ddpm_seg.model.bundle.ensemble_bundle import save_bundle
from ddpm_seg.model.errors import ModelChangedError
from ddpm_seg.pipeline import execute, isolate, job
from ddpm_seg.pipeline.generate import job as generate
from ddpm_seg.pipeline.generate.config import GenerateConfig
from ddpm_seg.pipeline.generate.job import run_generate
from ddpm_seg.pipeline.generate.plan import plan_generate
from ddpm_seg.pipeline.label import job as label
from ddpm_seg.pipeline.label import stages
from ddpm_seg.pipeline.label.config import LabelConfig
from ddpm_seg.pipeline.label.job import run_label
from ddpm_seg.pipeline.label.plan import plan_label
from ddpm_seg.pipeline.label.stages import Segment
from ddpm_seg.runs import plan as run_plan
from ddpm_seg.runs.layout import RunLayout
from ddpm_seg.runs.ledger import KnownRun, freeze_run
from ddpm_seg.runs.manifest import Manifest, RunInfo
from ddpm_seg.runs.manifest import plan as plan_chunks
from ddpm_seg.runs.view import read_labels
from ddpm_seg.studies import evaluate, few_shot_splits
from ddpm_seg.studies.compare import CompareConfig, compare
from ddpm_seg.studies.evaluate import EvaluateConfig, run_evaluate
from ddpm_seg.studies.few_shot_splits import run_splits
from ddpm_seg.training.ensemble.train import train_from_config
from ddpm_seg.training.ensemble.train_config import TrainConfig
from tests.annotated_boxes import annotate
from tests.pipeline.stand_in import ONE_ACTOR
from tests.tiny_bundle import tiny_bundle


@dataclass(frozen=True)
class Place:
    """A bundle to label with at `model`, which `put` replaces by the one that it names: `old` or `new`."""

    folder: Path
    ids: dict[str, str]

    @property
    def model(self) -> str:
        return str(self.folder / "model")

    def put(self, name: str) -> None:
        shutil.copytree(self.folder / name, self.folder / "model", dirs_exist_ok=True)

    def config(self) -> LabelConfig:
        uris = {name: str(self.folder / name) for name in ("input", "output")}
        return LabelConfig(**uris, model=self.model, shard_size=3, chunk_size=1, num_actors=1)

    def rows(self) -> list[dict[str, str]]:
        return read_labels(
            str(self.folder / "output"), columns=["uri", "status", "model_id", "config_hash"]
        ).to_pylist()


@pytest.fixture
def place(tmp_path: Path) -> Place:
    ids = {
        name: save_bundle(tiny_bundle(seed), str(tmp_path / name)).model_id for seed, name in enumerate(["old", "new"])
    }
    (tmp_path / "input").mkdir()
    for name in "abcd":
        picture = np.random.default_rng(ord(name)).integers(0, 256, (24, 40, 3), dtype=np.uint8)
        Image.fromarray(picture).save(tmp_path / "input" / f"{name}.png")
    place = Place(tmp_path, ids)
    place.put("old")
    return place


@pytest.fixture
def on_cpus(ray_cluster: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nodes, "connect", lambda: [nodes.Node(cpus=2, gpus=0)])


def names_both(place: Place) -> str:
    return rf"{place.model} holds model {place.ids['new']}; expected model {place.ids['old']}"


def after(patch: pytest.MonkeyPatch, module: object, name: str, act: Callable[[], object]) -> None:
    """Calls `act` whenever `module.name` returns."""
    real = getattr(module, name)

    def and_then(*arguments: object, **options: object) -> object:
        found = real(*arguments, **options)
        act()
        return found

    patch.setattr(module, name, and_then)


# --- the label job, on Ray ---


def test_actors_refuse_another_model_than_the_plans(
    on_cpus: None, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    after(monkeypatch, job, "load_model", lambda: place.put("new"))
    with pytest.raises(StageError, match=names_both(place)) as error:
        run_label(place.config())
    monkeypatch.undo()
    monkeypatch.setattr(nodes, "connect", lambda: [nodes.Node(cpus=2, gpus=0)])
    assert "\n" not in str(error.value)
    assert not list(storage.list_files(str(place.folder / "output" / "labels")))

    # With what stands there now another configuration begins; the run that was begun waits for its own model.
    other = plan_label(place.config())
    assert (other.header.model_id, other.run.new.num_rows, len(other.run.unfinished)) == (place.ids["new"], 4, 0)
    place.put("old")
    plan = plan_label(place.config())
    assert (plan.run.new.num_rows, len(plan.run.unfinished)) == (0, 1)
    assert plan.run.config_hash != other.run.config_hash
    assert [run.ok for run in run_label(place.config()).runs] == [4]
    assert {(row["model_id"], row["config_hash"]) for row in place.rows()} == {(place.ids["old"], plan.run.config_hash)}
    assert not run_label(place.config()).runs


class ReplacedAtWork(Segment):
    """After its first chunk the bundle is replaced and the process dies, so that Ray starts the actor again."""

    def __init__(self, model: str, **options: object) -> None:
        super().__init__(model, **options)  # type: ignore[arg-type]
        self.model = Path(model)

    def __call__(self, row: stages.Row) -> stages.Row:
        done = super().__call__(row)
        if row["chunk"] == 2 and not (self.model / "replaced").exists():
            shutil.copytree(self.model.parent / "new", self.model, dirs_exist_ok=True)
            (self.model / "replaced").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return done


@pytest.mark.slow
def test_an_actor_that_restarts_does_not_mix_models(
    on_cpus: None, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stages, "Segment", ReplacedAtWork)
    with pytest.raises(StageError, match=names_both(place)):
        run_label(replace(place.config(), shard_size=4))
    place.put("old")
    run_label(replace(place.config(), shard_size=4))
    assert [row["model_id"] for row in place.rows()] == [place.ids["old"]] * 4
    undisturbed = replace(place.config(), output=str(place.folder / "undisturbed"), shard_size=4)
    (place.folder / "model" / "replaced").touch()
    run_label(undisturbed)
    masks = [read_labels(output).select(["uri", "mask", "uncertainty"]) for output in
             (str(place.folder / "output"), undisturbed.output)]  # fmt: skip
    assert masks[0].equals(masks[1])


@pytest.mark.slow
def test_a_process_for_what_killed_others_refuses_too(ray_cluster: str, place: Place) -> None:
    plan = plan_label(place.config())
    info = RunInfo(run_id="", config_hash=plan.run.config_hash, created_at=datetime.now(timezone.utc), config={})
    manifest = Manifest(info=info, items=plan_chunks(plan.run.new, 3, 1))
    run = freeze_run(plan.run.output, "labels", manifest, 1)
    assert run is not None
    place.put("new")
    work = label.LabelWork(plan)
    stages_of_run = work.stages(run, ONE_ACTOR)
    planned = run.planned(model_id=plan.header.model_id)
    with pytest.raises(StageError, match=names_both(place)), execute._failures_named(run.layout.run_id):
        list(isolate.isolate(list(run.manifest.chunks()), work.to_row, stages_of_run, ONE_ACTOR, planned))
    assert not list(storage.list_files(run.layout.chunks))


# --- what needs no Ray: the driver, and the other jobs ---


@pytest.fixture
def no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nodes, "connect", lambda: pytest.fail("Ray was asked for"))


def test_the_driver_refuses_another_model_than_the_plans(
    no_ray: None, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    after(monkeypatch, label, "plan_label", lambda: place.put("new"))
    with pytest.raises(StageError, match=names_both(place)):
        run_label(place.config())
    place.put("old")
    after(monkeypatch, generate, "plan_generate", lambda: place.put("new"))
    with pytest.raises(StageError, match=names_both(place)):
        run_generate(GenerateConfig(model=place.model, output=str(place.folder / "output"), num_samples=2, steps=2))
    assert not (place.folder / "output" / "runs").exists()


def test_a_plan_made_again_is_of_the_same_model(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where another driver was quicker to freeze the run, and the bundle was replaced meanwhile."""
    monkeypatch.setattr(nodes, "connect", lambda: [nodes.Node(cpus=2, gpus=0)])
    monkeypatch.setattr(run_plan, "freeze_run", lambda *_: place.put("new"))
    for config in (place.config(), replace(place.config(), expect_model_id=place.ids["old"])):
        place.put("old")
        with pytest.raises(StageError, match=names_both(place)):
            run_label(config)


def test_actors_that_draw_are_bound_to_the_plans_model(place: Place) -> None:
    config = GenerateConfig(model=place.model, output=str(place.folder / "output"), num_samples=2, steps=2)
    plan = plan_generate(config)
    layout = RunLayout(output=plan.run.output, table="samples", config_hash=plan.run.config_hash, run_id="run-000001")
    info = RunInfo(run_id="run-000001", config_hash="", created_at=datetime.now(timezone.utc), config={})
    run = KnownRun(layout=layout, info=info, finished=False)
    run.__dict__["manifest"] = Manifest(info=info, items=plan.run.new)
    built = generate.GenerateWork(plan).stages(run, ONE_ACTOR)
    built.actor(**built.actor_arguments)
    place.put("new")
    with pytest.raises(ModelChangedError, match=names_both(place)):
        built.actor(**built.actor_arguments)


def test_the_quality_of_samples_is_of_the_model_that_drew_them(place: Place) -> None:
    with pytest.raises(ModelChangedError, match=f"holds model {place.ids['old']}; expected model {place.ids['new']}"):
        write_quality(
            "unread", config_hash="", model=place.model, model_id=place.ids["new"], real="unread", inception=None
        )


def test_evaluation_names_the_model_that_labelled(no_ray: None, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    annotated = str(annotate(place.folder / "annotated", 2))
    config = EvaluateConfig(images=annotated, output=str(place.folder / "output"), model=place.model)
    after(monkeypatch, evaluate, "load_annotations", lambda: place.put("new"))
    with pytest.raises(ModelChangedError, match=names_both(place)):
        run_evaluate(config)
    place.put("old")
    after(monkeypatch, few_shot_splits, "read_trained_header", lambda: place.put("new"))
    with pytest.raises(ModelChangedError, match=names_both(place)):
        run_splits(replace(config, splits=1, shots=1))
    assert not storage.exists(storage.join(config.output, evaluate.METRICS))


def test_a_training_goes_by_one_model(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    train = TrainConfig(model=place.model, images="unread", task="avatars_10", output=str(place.folder / "trained"))
    after(monkeypatch, ensemble_bundle, "read_content", lambda: place.put("new"))
    with pytest.raises(ModelChangedError, match=names_both(place)):
        train_from_config(train)
    place.put("old")
    with pytest.raises(ModelChangedError, match=names_both(place)):
        compare(CompareConfig(model=place.model, task="avatars_10", train=("unread",), output=str(place.folder / "x")))


# --- --expect-model-id ---


def test_a_model_that_is_not_the_expected_one_is_refused_before_any_work(
    no_ray: None, place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    output = place.folder / "output"
    wrong = ["--model", place.model, "--output", str(output), "--expect-model-id", place.ids["new"]]
    message = f"{place.model} holds model {place.ids['old']}; expected model {place.ids['new']}"
    annotated = str(annotate(place.folder / "annotated", 2))
    for main, flags in [
        (jobs.label.main, ["--input", str(place.folder / "input")]),
        (jobs.label.main, ["--input", str(place.folder / "input"), "--dry-run"]),
        (jobs.generate.main, ["--num-samples", "2"]),
        (jobs.evaluate.main, ["--images", annotated]),
        (jobs.evaluate.main, ["--images", annotated, "--splits", "1", "--shots", "1"]),
    ]:
        assert main([*wrong, *flags]) == 2
        assert message in capsys.readouterr().err
        assert not output.exists()
        # Empty, as a shell's variable that is not set, is not "whichever".
        with pytest.raises((ValueError, SystemExit)):
            main([*wrong[:-1], "", *flags])
        assert not output.exists()


def test_the_expected_model_changes_nothing_else(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    plain, expecting = plan_label(place.config()), plan_label(replace(place.config(), expect_model_id=place.ids["old"]))
    assert expecting.run.config_hash == plain.run.config_hash
    assert label.LabelWork(expecting).stored() == label.LabelWork(plain).stored()
    drawing = GenerateConfig(model=place.model, output=str(place.folder / "output"))
    plans = [plan_generate(one) for one in (drawing, replace(drawing, expect_model_id=place.ids["old"]))]
    assert plans[0].run.config_hash == plans[1].run.config_hash
    assert generate.GenerateWork(plans[0]).stored() == generate.GenerateWork(plans[1]).stored()
    # A dry run says what to expect.
    assert f"model      {place.ids['old']}" in str(plain)
    assert f"model      {place.ids['old']}" in str(plans[0])
