"""DatasetGAN's road without a cluster: a StyleGAN2 draws, people annotate what it drew, and it labels what it draws."""

from __future__ import annotations

import pickle
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ddpm_seg import read_samples, storage
from ddpm_seg.data.table_pictures import row_image, row_mask
from ddpm_seg.model.bundle.ensemble_bundle import Bundle, load_bundle, save_bundle
from ddpm_seg.model.networks.style.stylegan2 import StyleGAN2Config
from ddpm_seg.pipeline.generate.config import GenerateConfig
from ddpm_seg.pipeline.generate.plan import GeneratePlan, plan_generate
from ddpm_seg.pipeline.generate.rows import Sample, SampleInput, SampleSpec, sample_table
from ddpm_seg.pipeline.generate.stages import Draw
from ddpm_seg.runs.layout import RunLayout
from ddpm_seg.runs.parquet import encode
from jobs import export, label, train
from tests.model.networks.style.test_stylegan2 import generator

CONFIG = StyleGAN2Config(image_size=16, channels=(12, 8, 10), mapping=(6, 9, 7))
TASK = ["--task", "avatars_10"]
QUICK = ["--members", "2", "--iterations", "150", "--device", "cpu", "--num-actors", "0"]


@pytest.fixture
def gan(tmp_path: Path) -> str:
    save_bundle(Bundle(network=CONFIG, weights=dict(generator(CONFIG).state_dict())), str(tmp_path / "gan"))
    return str(tmp_path / "gan")


def plan(model: str, output: Path, count: int, **options: object) -> GeneratePlan:
    how = {"model": model, "output": str(output), "num_samples": count, "seed": 4, **options}
    return plan_generate(GenerateConfig(**how))  # type: ignore[arg-type]


def drawn(planned: GeneratePlan, chunk_size: int, batch_size: int | None = None) -> list[Sample]:
    """As the actors of a job do, in chunks."""
    actor = Draw(planned.config.model, sampling=planned.sampling, dtype="float32", batch_size=batch_size, threads=1)
    rows = planned.run.new.select(["image_id", "uri", "seed", "number"]).to_pylist()
    samples = []
    for start in range(0, len(rows), chunk_size):
        sources = [SampleInput(**row) for row in rows[start : start + chunk_size]]
        samples += pickle.loads(actor({"payload": pickle.dumps(sources)})["payload"])
    return samples


def publish(planned: GeneratePlan, output: Path) -> list[dict]:
    """Writes the `samples` table; its rows."""
    layout = RunLayout(output=str(output), table="samples", config_hash=planned.run.config_hash, run_id="run-000001")
    spec = SampleSpec(
        layout=layout,
        created_at=datetime.now(timezone.utc),
        model_id=planned.header.model_id,
        code_version="x",
        task=planned.header.task,
        sampler=planned.drawing.sampler,
        sampling_steps=planned.drawing.steps,
    )
    storage.write_bytes(layout.shard(0), encode(sample_table(drawn(planned, 4), spec)))
    return read_samples(str(output), curated=False).to_pylist()


def truth(picture: np.ndarray) -> np.ndarray:
    """What the annotator sees: bright pixels are class 1."""
    return (picture.mean(axis=2) > 128).astype(np.uint8)


def test_the_road(gan: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = plan(gan, tmp_path / "drawn", 10)
    assert "truncation 0.7" in str(first)
    rows = publish(first, tmp_path / "drawn")
    assert {(row["sampler"], row["sampling_steps"], row["status"]) for row in rows} == {("stylegan2", 1, "ok")}
    sheets, model = tmp_path / "to-annotate", str(tmp_path / "model")
    assert export.main(["--samples", str(tmp_path / "drawn"), "--to", "png", "--output", str(sheets)]) == 0
    (sheets / "masks").mkdir()
    for file in (sheets / "images").iterdir():
        Image.fromarray(truth(np.asarray(Image.open(file)))).save(sheets / "masks" / f"{file.stem}.png")
    assert train.main(["--model", gan, "--images", str(sheets), *TASK, *QUICK, "--output", model]) == 0
    assert f"next: ddpm-seg generate --model {model}" in capsys.readouterr().out

    second = plan(model, tmp_path / "samples", 12)
    whole, parts = drawn(second, 12), drawn(second, 5, batch_size=3)
    for one, other in zip(whole, parts, strict=True):
        assert one.image is not None
        assert one.label is not None
        assert other.label is not None
        assert np.array_equal(one.image, other.image)
        assert np.array_equal(one.label.label, other.label.label)
        assert np.array_equal(one.label.uncertainty, other.label.uncertainty)
    labelled = publish(second, tmp_path / "samples")
    assert [row["image"] for row in labelled[:10]] == [row["image"] for row in rows]
    assert np.mean([np.mean(row_mask(row) == truth(row_image(row))) for row in labelled]) > 0.85

    capsys.readouterr()
    assert label.main(["--model", model, "--input", str(sheets), "--output", str(tmp_path / "no")]) == 2
    assert "to label others, train a student on its samples (ddpm-seg distill)" in " ".join(
        capsys.readouterr().err.split()
    )


def test_the_truncation_of_an_ensemble_is_that_of_its_samples(gan: str, tmp_path: Path) -> None:
    at = {truncation: plan(gan, tmp_path, 3, truncation=truncation) for truncation in (None, 0.7, 0.3)}
    hashes = [planned.run.config_hash for planned in at.values()]
    assert hashes[0] == hashes[1] != hashes[2]
    assert not np.array_equal(drawn(at[0.3], 3)[0].image, drawn(at[0.7], 3)[0].image)
    bundle = load_bundle(gan)
    learnt = Bundle(network=bundle.network, weights=bundle.weights, features=CONFIG.published_features())
    save_bundle(learnt, str(tmp_path / "learnt"))
    assert plan(str(tmp_path / "learnt"), tmp_path, 3).sampling.truncation == 0.7
    with pytest.raises(ValueError, match=r"--truncation 0\.3: this bundle's ensemble was trained at 0\.7"):
        plan(str(tmp_path / "learnt"), tmp_path, 3, truncation=0.3)


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        ("", {"sampler": "dpm-solver++"}, "--sampler is not for a StyleGAN2"),
        ("", {"steps": 30}, "--steps is not for a StyleGAN2"),
        ("", {"eta": 0.5}, "--eta is not for a StyleGAN2"),
        (
            "",
            {"dtype": "int8"},
            "int8 works only for a DDPM's network; use float32, bfloat16 or float16 for a StyleGAN2",
        ),
        ("", {"truncation": 1.2}, "truncation must lie between 0 and 1"),
        ("avatars-10", {"truncation": 0.7}, "--truncation is not for a"),
    ],
)
def test_flags_of_other_networks_are_refused(
    gan: str, tmp_path: Path, model: str, options: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message.replace("+", r"\+")):
        plan(model or gan, tmp_path, 3, **options)
