"""The generate job end to end, on a real Ray cluster."""

from __future__ import annotations

import dataclasses
import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

import ddpm_seg
from ddpm_seg.cluster import nodes
from ddpm_seg.data.schema import task_of
from ddpm_seg.evaluation.scores.image_features import torchscript_features
from ddpm_seg.model.bundle.ensemble_bundle import save_bundle
from ddpm_seg.pipeline.generate.config import GenerateConfig
from ddpm_seg.pipeline.generate.job import run_generate
from ddpm_seg.pipeline.generate.plan import plan_generate
from ddpm_seg.runs.view import read_view
from tests.annotated_boxes import annotate
from tests.schema_reference import check_keys
from tests.tiny_bundle import TASK, tiny_bundle

SIZE = 16


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    uri = str(tmp_path_factory.mktemp("model") / "tiny")
    save_bundle(tiny_bundle(size=SIZE), uri)
    return uri


def config(model: str, output: Path, **more: object) -> GenerateConfig:
    settings: dict[str, object] = {"num_samples": 7, "steps": 3, "batch_size": 2, "chunk_size": 2, "shard_size": 4}
    return GenerateConfig(model=model, output=str(output), **{**settings, **more})  # type: ignore[arg-type]


def pixels(cell: dict[str, bytes]) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(cell["bytes"])))


def contents(samples: pa.Table) -> set[tuple[int, int, bytes, bytes]]:
    rows = samples.select(["seed", "number", "image", "mask"]).to_pylist()
    return {(row["seed"], row["number"], row["image"]["bytes"], row["mask"]["bytes"]) for row in rows}


def test_samples_grow_and_are_the_same_however_they_are_drawn(ray_cluster: str, model: str, tmp_path: Path) -> None:
    few = run_generate(config(model, tmp_path / "out", num_samples=3, num_actors=1))
    assert [run.ok for run in few.runs] == [3]
    first = contents(read_view(str(tmp_path / "out"), "samples"))
    more = run_generate(config(model, tmp_path / "out", num_actors=2))
    assert (more.already_done, [run.ok for run in more.runs]) == (3, [4])
    samples = read_view(str(tmp_path / "out"), "samples")
    assert samples["number"].to_pylist() == list(range(7))
    assert first < contents(samples)
    run_generate(config(model, tmp_path / "at once", num_actors=1, chunk_size=5))
    assert contents(read_view(str(tmp_path / "at once"), "samples")) == contents(samples)

    # Masks and statistics are what labelling says of the stored images.
    segment = ddpm_seg.load(model)
    for row in samples.to_pylist():
        image = pixels(row["image"])
        assert image.shape == (SIZE, SIZE, 3)
        (result,) = segment([image])
        assert np.array_equal(pixels(row["mask"]), result.mask)
        assert row["uncertainty"] == pytest.approx(result.uncertainty, rel=1e-4)
        assert sum(one["pixels"] for one in row["classes"]) == SIZE * SIZE
        assert (row["status"], row["sampler"], row["sampling_steps"], row["seed"]) == ("ok", "ddim", 3, 0)
    assert task_of(samples.schema) == TASK
    statistics = pq.read_table(tmp_path / "out" / "sample_class_stats")
    assert sum(statistics["pixels"].to_pylist()) == 7 * SIZE * SIZE
    report = Path(str(more.report)).read_text()
    assert report.count("<figure>") == 4
    assert "data:image/png" in report

    # Nothing new starts nothing; another sampler is another table.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nodes, "connect", lambda: pytest.fail("Ray was asked for"))
        assert not run_generate(config(model, tmp_path / "out", num_samples=5)).runs
    plan = plan_generate(config(model, tmp_path / "out", sampler="ddpm"))
    assert (plan.run.new.num_rows, plan.run.already_done) == (7, 0)
    assert plan_generate(config(model, tmp_path / "out", seed=1)).run.new.num_rows == 7


def test_a_model_without_an_ensemble_gives_images_alone(ray_cluster: str, tmp_path: Path) -> None:
    ddpm = dataclasses.replace(tiny_bundle(size=SIZE), members=(), task=None, features=None)
    save_bundle(ddpm, str(tmp_path / "ddpm"))
    summary = run_generate(config(str(tmp_path / "ddpm"), tmp_path / "out", num_samples=3))
    samples = read_view(str(tmp_path / "out"), "samples")
    assert samples["status"].to_pylist() == ["ok"] * 3
    assert samples["mask"].null_count == samples["uncertainty"].null_count == 3
    assert pixels(samples["image"][2].as_py()).shape == (SIZE, SIZE, 3)
    report = Path(str(summary.report)).read_text()
    assert report.count("<figure>") == 3
    assert "not labelled" in report
    assert not (tmp_path / "out" / "sample_class_stats").exists()


def test_samples_are_compared_with_real_images(ray_cluster: str, model: str, tmp_path: Path) -> None:
    boxes = annotate(tmp_path / "boxes", 5)
    found = run_generate(config(model, tmp_path / "out", real=str(boxes))).quality
    assert found == json.loads((tmp_path / "out" / "quality.json").read_text())
    check_keys("quality.json", found)
    check_keys("run.json", json.loads((tmp_path / "out" / "runs" / "run-000001" / "run.json").read_text()))
    assert (found["samples"], found["real_images"]) == (7, 5)
    shares = found["class_shares"]
    for part in ("samples", "real"):
        assert sum(share[part] for share in shares.values()) == pytest.approx(1)
    assert shares["red"]["real"] == pytest.approx(64 / 256)  # each box has 8 x 8 of 16 x 16 pixels

    # Of the samples themselves, as PNGs, they are not far; nor have these masks. Nothing is drawn again.
    (tmp_path / "own").mkdir()
    for row in read_view(str(tmp_path / "out"), "samples").to_pylist():
        (tmp_path / "own" / f"{row['number']}.png").write_bytes(row["image"]["bytes"])
    again = run_generate(config(model, tmp_path / "out", real=str(tmp_path / "own")))
    assert not again.runs
    assert again.quality is not None
    assert again.quality["frechet_distance"] == pytest.approx(0, abs=1e-5)
    assert again.quality["frechet_distance"] < 0.01 * found["frechet_distance"]
    assert again.quality["class_shares"]["red"]["real"] is None


def test_the_users_own_network_may_give_the_features(tmp_path: Path) -> None:
    class Colours(torch.nn.Module):
        def forward(self, images: torch.Tensor, return_features: bool = False) -> torch.Tensor:
            assert images.dtype == torch.uint8
            return images.float().mean(dim=[2, 3]) if return_features else images.float()

    torch.jit.script(Colours()).save(str(tmp_path / "colours.pt"))
    images = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 3), dtype=np.uint8)
    found = torchscript_features(str(tmp_path / "colours.pt"), "cpu")(images)
    np.testing.assert_allclose(found, images.mean(axis=(1, 2)), rtol=1e-5)
    (tmp_path / "none.pt").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"none\.pt is not a TorchScript file"):
        torchscript_features(str(tmp_path / "none.pt"), "cpu")


def test_what_samples_cannot_be_compared_with_is_said_before_they_are_drawn(model: str, tmp_path: Path) -> None:
    """A dry run says it too."""
    boxes = str(annotate(tmp_path / "boxes", 2))
    (tmp_path / "none.pt").write_bytes(b"nothing")
    for wrong, message in (
        ({"real": "/not/there"}, "nothing found at /not/there"),
        ({"real": boxes, "inception": "/not/there.pt"}, r"/not/there\.pt"),
        ({"real": boxes, "inception": str(tmp_path / "none.pt")}, r"none\.pt is not a TorchScript file"),
    ):
        for use in (plan_generate, run_generate):
            with pytest.raises((ValueError, OSError), match=message):
                use(config(model, tmp_path / "out", **wrong))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"num_samples": 0}, "--num-samples must be at least 1, got 0"),
        ({"seed": -1}, "--seed must lie between 0 and"),
        ({"gpus_per_actor": 2.0}, "--gpus-per-actor must be above 0 and at most 1, got 2"),
        ({"steps": 1}, "sampling needs at least 2 steps, got 1"),
        ({"steps": 500}, "500 timesteps do not fit into 0..80"),
        ({"eta": 7.0}, "eta must lie between 0 and 1, got 7"),
        ({"model": "nowhere"}, "nowhere"),
        ({"real": "/not/there"}, "/not/there"),
        ({"inception": "inception.pt"}, "--inception needs --real"),
    ],
)
def test_mistakes_are_found_before_anything_is_done(
    wrong: dict[str, object], message: str, model: str, tmp_path: Path
) -> None:
    with pytest.raises((ValueError, OSError), match=message):
        run_generate(dataclasses.replace(config(model, tmp_path / "out"), **wrong))  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()
