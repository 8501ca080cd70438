"""Training, evaluating and labelling with a network that is not a DDPM, on a Ray cluster."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest

import ddpm_seg
from ddpm_seg.model.bundle.ensemble_bundle import load_bundle, save_bundle
from ddpm_seg.model.network import Network
from jobs import convert, evaluate, generate, label, train
from tests.annotated_boxes import annotate
from tests.model import recorded_vdvae_alae
from tests.model.published.tiny_backbones import timm_folder, transformers_folder
from tests.model.published.tiny_diffusers import pipeline, stable_diffusion
from tests.model.tiny_networks import TINY_MAE, TINY_SWAV, backbone_bundle

FOLDERS = {
    "timm": timm_folder,
    "transformers": partial(transformers_folder, name="dinov3_vit"),
    "diffusers": stable_diffusion,
}


@pytest.mark.slow
def test_train_evaluate_and_label_with_a_network_of_diffusers(ray_cluster: str, tmp_path: Path) -> None:
    """From the folder that diffusers wrote to masks, and to samples."""
    images, held_out = annotate(tmp_path / "train", 4), annotate(tmp_path / "held_out", 3, first=100)
    start, model, out = str(tmp_path / "start"), str(tmp_path / "model"), str(tmp_path / "out")
    assert convert.main(["--diffusers", pipeline(tmp_path / "pipeline"), "--output", start]) == 0
    how = ["--task", "avatars_10", "--members", "2", "--iterations", "60", "--device", "cpu"]
    assert train.main(["--model", start, "--images", str(images), "--output", model, "--num-actors", "1", *how]) == 0
    assert evaluate.main(["--model", model, "--images", str(held_out), "--output", str(tmp_path / "scores")]) == 0
    assert json.loads((tmp_path / "scores" / "metrics.json").read_text())["usual_miou"] > 0.6
    assert label.main(["--model", model, "--input", str(held_out), "--output", out]) == 0
    assert ddpm_seg.read_labels(out)["status"].to_pylist() == ["ok"] * 3
    samples = ["--num-samples", "2", "--steps", "4", "--output", str(tmp_path / "samples")]
    assert generate.main(["--model", model, *samples]) == 0


@pytest.mark.slow
@pytest.mark.parametrize("flag", ["--vdvae", "--alae"])
def test_from_a_published_checkpoint_to_masks(ray_cluster: str, tmp_path: Path, flag: str) -> None:
    """The whole road of a VDVAE and an ALAE, of random weights in the published layouts; twice, to the same bytes."""
    images, held_out = annotate(tmp_path / "train", 4), annotate(tmp_path / "held_out", 3, first=100)
    start, out = str(tmp_path / "start"), str(tmp_path / "out")
    if flag == "--vdvae":
        flags = " ".join(f"--{name} {value}" for name, value in recorded_vdvae_alae.VDVAE32_FLAGS.items())
        path = recorded_vdvae_alae.save(tmp_path / "ema.th", recorded_vdvae_alae.state("vdvae32"))
        source = [flag, path, "--model-flags", flags]
    else:
        source = [flag, recorded_vdvae_alae.save_alae(tmp_path / "s.pth", recorded_vdvae_alae.state("alae128"))]
    assert convert.main([*source, "--output", start]) == 0
    how = ["--task", "avatars_10", "--members", "2", "--iterations", "60", "--device", "cpu", "--num-actors", "1"]
    models = [str(tmp_path / name) for name in ("model", "again")]
    for model in models:
        assert train.main(["--model", start, "--images", str(images), "--output", model, *how]) == 0
    first, again = ((Path(model) / "ensemble.safetensors").read_bytes() for model in models)
    assert first == again
    scores = tmp_path / "scores"
    assert evaluate.main(["--model", models[0], "--images", str(held_out), "--output", str(scores)]) == 0
    assert json.loads((scores / "metrics.json").read_text())["usual_miou"] > 0.6
    assert label.main(["--model", models[0], "--input", str(held_out), "--output", out]) == 0
    assert ddpm_seg.read_labels(out)["status"].to_pylist() == ["ok"] * 3
    assert generate.main(["--model", models[0], "--num-samples", "2", "--output", str(tmp_path / "samples")]) == 2


@pytest.mark.parametrize(
    "network", [pytest.param(TINY_MAE, id="MAE"), pytest.param(TINY_SWAV, id="SwAV", marks=pytest.mark.slow)]
)
def test_train_evaluate_and_label(
    ray_cluster: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], network: Network
) -> None:
    images, held_out = annotate(tmp_path / "train", 4), annotate(tmp_path / "held_out", 3, first=100)
    start, model = str(tmp_path / "start"), str(tmp_path / "model")
    untrained = backbone_bundle(network)
    save_bundle(untrained, start)
    how = ["--task", "avatars_10", "--members", "2", "--iterations", "60", "--device", "cpu"]
    assert train.main(["--model", start, "--images", str(images), "--output", model, "--num-actors", "1", *how]) == 0
    bundle = load_bundle(model)
    assert (bundle.network, bundle.features) == (network, untrained.network.published_features())
    assert "2 members trained on 4 images" in capsys.readouterr().out

    place = ["--model", model, "--images", str(held_out), "--output", str(tmp_path / "scores")]
    assert evaluate.main(place) == 0
    # A bright box on a dark ground, by features of random weights; all background would be less than 0.4.
    assert json.loads((tmp_path / "scores" / "metrics.json").read_text())["usual_miou"] > 0.6

    place = ["--model", model, "--input", str(held_out), "--output", str(tmp_path / "out")]
    assert label.main(place) == 0
    assert ddpm_seg.read_labels(str(tmp_path / "out"))["status"].to_pylist() == ["ok"] * 3
    assert label.main([*place, "--dtype", "int8"]) == 2
    assert f"use float32, bfloat16 or float16 for a {network.title}" in capsys.readouterr().err

    assert train.main(["--model", start, "--images", str(images), "--output", f"{model}-2", "--steps", "50", *how]) == 2
    assert f"this is a {network.title}: leave them out" in capsys.readouterr().err


SHORT = ["--task", "avatars_10", "--members", "2", "--iterations", "60", "--device", "cpu", "--num-actors", "1"]


def score_of_trained(start: str, folder: Path) -> float:
    """Usual mean IoU of the network `start` with classifiers trained on four images, on three others; labels these."""
    images, held_out = annotate(folder / "train", 4), annotate(folder / "held_out", 3, first=100)
    model, scores, out = str(folder / "model"), folder / "scores", str(folder / "out")
    assert train.main(["--model", start, "--images", str(images), "--output", model, *SHORT]) == 0
    assert evaluate.main(["--model", model, "--images", str(held_out), "--output", str(scores)]) == 0
    assert label.main(["--model", model, "--input", str(held_out), "--output", out]) == 0
    assert ddpm_seg.read_labels(out)["status"].to_pylist() == ["ok"] * 3
    score: float = json.loads((scores / "metrics.json").read_text())["usual_miou"]
    return score


@pytest.mark.slow
@pytest.mark.parametrize("library", ["timm", "transformers", "diffusers"])
def test_from_a_librarys_folder_to_masks(ray_cluster: str, tmp_path: Path, library: str) -> None:
    """The whole road of networks that people have, of random weights in their libraries' folders."""
    start = str(tmp_path / "start")
    source = [f"--{library}", FOLDERS[library](tmp_path / "folder")]
    assert convert.main([*source, "--image-size", "64", "--output", start]) == 0
    # All background would be less than 0.4; random features at an eighth of the side do not do much better.
    assert score_of_trained(start, tmp_path) > 0.45
    if library == "transformers":  # a minute: the others' tuning differs in nothing
        tuned = ["--tune", "--output", str(tmp_path / "tuned")]
        assert train.main(["--model", start, "--images", str(tmp_path / "train"), *SHORT, *tuned]) == 0


@pytest.mark.slow
def test_from_a_pair_to_masks(ray_cluster: str, tmp_path: Path) -> None:
    """The DDPM in the box beside a network of another side and grid."""
    second, start = str(tmp_path / "second"), str(tmp_path / "start")
    save_bundle(backbone_bundle(TINY_MAE), second)
    assert convert.main(["--pair", "avatars-10", second, "--output", start]) == 0
    assert score_of_trained(start, tmp_path) > 0.6
