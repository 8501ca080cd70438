"""DatasetGAN's road on a small random StyleGAN2: draw, annotate, train, draw labelled samples, and distil a student.

And GAN Encoder and GAN Inversion on real images, from checkpoints as published.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import ddpm_seg
from ddpm_seg import read_samples
from ddpm_seg.data.table_pictures import row_image, row_mask
from ddpm_seg.model.networks.style.stylegan2 import StyleGAN2Config
from jobs import convert, curate, distill, evaluate, export, generate, label, train
from tests.annotated_boxes import annotate
from tests.model import gan_weights
from tests.model.networks.style import test_stylegan
from tests.model.networks.style.test_stylegan2 import generator
from tests.model.published.nvlabs_files import ada, pickled
from tests.model.recorded_gans import inversion_checkpoint, written

CONFIG = StyleGAN2Config(image_size=16, channels=(12, 8, 10), mapping=(6, 9, 7))
COLUMNS = ["uri", "number", "status", "width", "height", "image", "mask", "uncertainty", "sampler", "sampling_steps"]
TASK = ["--task", "avatars_10"]
QUICK = ["--members", "2", "--iterations", "150", "--device", "cpu", "--num-actors", "1"]


@pytest.fixture
def gan(tmp_path: Path, ray_cluster: str) -> str:
    """A bundle of a pickle as stylegan2-ada-pytorch writes it."""
    (tmp_path / "network-snapshot-025000.pkl").write_bytes(pickled(ada(dict(generator(CONFIG).state_dict()))))
    bundle = str(tmp_path / "gan")
    file = str(tmp_path / "network-snapshot-025000.pkl")
    assert convert.main(["--stylegan2", file, "--output", bundle]) == 0
    return bundle


def draw(model: str, output: Path, count: int, *more: str) -> list[dict]:
    how = ["--model", model, "--output", str(output), "--num-samples", str(count), "--seed", "4", *more]
    assert generate.main(how) == 0
    return read_samples(str(output), columns=COLUMNS, curated=False).to_pylist()


def truth(picture: np.ndarray) -> np.ndarray:
    """What the annotator sees: bright pixels are class 1."""
    return (picture.mean(axis=2) > 128).astype(np.uint8)


def annotate_exported(folder: Path) -> None:
    """Masks beside the exported pictures, as a person would save them."""
    (folder / "masks").mkdir()
    for file in (folder / "images").iterdir():
        Image.fromarray(truth(np.asarray(Image.open(file)))).save(folder / "masks" / f"{file.stem}.png")


@pytest.mark.slow
def test_from_a_generator_to_a_student(gan: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    drawn = draw(gan, tmp_path / "drawn", 10, "--num-actors", "1")
    assert [row["uri"] for row in drawn] == [f"sample:4/{number:09d}" for number in range(10)]
    assert {(row["sampler"], row["sampling_steps"], row["status"]) for row in drawn} == {("stylegan2", 1, "ok")}
    again = draw(gan, tmp_path / "again", 10, "--num-actors", "2", "--chunk-size", "3", "--batch-size", "5")
    assert [row["image"] for row in again] == [row["image"] for row in drawn]

    sheets, model = tmp_path / "to-annotate", str(tmp_path / "model")
    exported = ["--samples", str(tmp_path / "drawn"), "--to", "png", "--output", str(sheets)]
    assert export.main(exported) == 0
    annotate_exported(sheets)
    learn = ["--model", gan, "--images", str(sheets), *TASK, *QUICK]
    assert train.main([*learn, "--output", model]) == 0
    assert json.loads((tmp_path / "model" / "bundle.json").read_text())["features"]["truncation"] == 0.7

    samples = draw(model, tmp_path / "samples", 12, "--num-actors", "2", "--chunk-size", "5")
    assert [row["image"] for row in samples[:10]] == [row["image"] for row in drawn]
    right = [np.mean(row_mask(row) == truth(row_image(row))) for row in samples]
    assert np.mean(right) > 0.85
    grown = draw(model, tmp_path / "samples", 40)
    assert grown[:12] == samples
    whole = draw(model, tmp_path / "whole", 40, "--num-actors", "1", "--chunk-size", "17")
    assert whole == grown

    assert curate.main(["--samples", str(tmp_path / "samples")]) == 0
    student, held_out = str(tmp_path / "student"), annotate(tmp_path / "real", 3, first=100)
    how = ["--backbone", "mobilenet_v3_large", "--resolution", "32", "--epochs", "1", "--batch-size", "4"]
    assert distill.main(["--samples", str(tmp_path / "samples"), "--output", student, *how]) == 0
    assert label.main(["--model", student, "--input", str(held_out), "--output", str(tmp_path / "labels")]) == 0
    assert ddpm_seg.read_labels(str(tmp_path / "labels"))["status"].to_pylist() == ["ok"] * 3

    # Wrong use, each named.
    capsys.readouterr()
    nothing = ["--output", str(tmp_path / "no")]
    real = ["--model", model, "--input", str(held_out), *nothing]
    for command, arguments, message in [
        (label, real, "only of the images that it draws; to label others, train a student"),
        (label, [*real, "--dry-run"], "train a student on its samples (ddpm-seg distill)"),
        (evaluate, ["--model", model, "--images", str(held_out), *nothing], "train a student"),
        (generate, ["--model", model, *nothing, "--truncation", "0.3"], "was trained at 0.7"),
        (generate, ["--model", gan, *nothing, "--steps", "30"], "--steps is not for a StyleGAN2"),
        (generate, ["--model", "avatars-10", *nothing, "--truncation", "0.5"], "--truncation is not"),
        (train, ["--model", gan, "--images", str(held_out), *TASK, *QUICK, "--output", f"{model}-2"], "not known as"),
    ]:
        assert command.main(arguments) == 2
        assert message in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "no").exists()
    first, second = sorted((sheets / "images").iterdir())[:2]
    content = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(content)
    assert train.main([*learn, "--output", model + "-2"]) == 2
    error = " ".join(capsys.readouterr().err.split())
    assert f"masks/{first.name}: it shows another picture than sample:4/000000000" in error
    assert f"masks/{second.name}: it shows another picture" in error


@pytest.mark.slow
def test_the_first_stylegan_draws_and_learns(
    ray_cluster: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """From the files of DatasetGAN's own code to labelled samples, the same on one actor and on two."""
    np.save(tmp_path / "avg_latent.npy", gan_weights.stylegan1(test_stylegan.NAME, "avg_latent", (18, 512)))
    file = written(tmp_path / "karras2019stylegan.for_g_all.pt", test_stylegan.state())
    gan, model, sheets = (str(tmp_path / name) for name in ("gan", "model", "to-annotate"))
    how = ["--avg-latent", str(tmp_path / "avg_latent.npy"), "--image-size", "32", "--output", gan]
    assert convert.main(["--stylegan", file, *how]) == 0
    drawn = draw(gan, tmp_path / "drawn", 6, "--num-actors", "1")
    assert {(row["sampler"], row["width"], row["status"]) for row in drawn} == {("stylegan", 32, "ok")}
    assert export.main(["--samples", str(tmp_path / "drawn"), "--to", "png", "--output", sheets]) == 0
    annotate_exported(Path(sheets))
    assert train.main(["--model", gan, "--images", sheets, *TASK, *QUICK, "--output", model]) == 0
    samples = draw(model, tmp_path / "samples", 9, "--num-actors", "2", "--chunk-size", "2")
    assert [row["image"] for row in samples[:6]] == [row["image"] for row in drawn]
    assert np.mean([np.mean(row_mask(row) == truth(row_image(row))) for row in samples]) > 0.85
    assert draw(model, tmp_path / "again", 9, "--num-actors", "1", "--chunk-size", "7") == samples
    held_out = str(annotate(tmp_path / "real", 1))
    capsys.readouterr()
    assert evaluate.main(["--model", model, "--images", held_out, "--output", str(tmp_path / "no")]) == 2
    assert "train a student" in " ".join(capsys.readouterr().err.split())


@pytest.mark.slow
@pytest.mark.parametrize("flag", ["gan-encoder", "gan-inversion"])
def test_encoders_label_images(ray_cluster: str, tmp_path: Path, flag: str) -> None:
    images, held_out = annotate(tmp_path / "train", 4), annotate(tmp_path / "held_out", 3, first=100)
    start, model, out = (str(tmp_path / name) for name in ("start", "model", "out"))
    file = written(tmp_path / "e4e_ffhq_encode.pt", inversion_checkpoint())
    assert convert.main([f"--{flag}", file, "--image-size", "32", "--output", start]) == 0
    assert train.main(["--model", start, "--images", str(images), *TASK, *QUICK, "--output", model]) == 0
    assert evaluate.main(["--model", model, "--images", str(held_out), "--output", str(tmp_path / "scores")]) == 0
    # A bright box on a dark ground, by features of random weights; all background would be less than 0.4.
    assert json.loads((tmp_path / "scores" / "metrics.json").read_text())["usual_miou"] > 0.5
    assert label.main(["--model", model, "--input", str(held_out), "--output", out]) == 0
    assert ddpm_seg.read_labels(out)["status"].to_pylist() == ["ok"] * 3
    assert generate.main(["--model", model, "--output", str(tmp_path / "no")]) == 2
