"""The pretraining job end to end, in one process and with Ray Train."""

from __future__ import annotations

from dataclasses import replace
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from PIL import Image

from ddpm_seg.model.bundle.ensemble_bundle import load_bundle, open_bundle, save_bundle
from ddpm_seg.model.features import FeatureConfig
from ddpm_seg.model.networks.diffusion.unet import UNetConfig
from ddpm_seg.model.networks.mae import MAEConfig
from jobs import pretrain_mae
from jobs.pretrain import main
from tests.model.published.tiny_diffusers import TINY_DIFFUSERS
from tests.model.tiny_networks import backbone_bundle, bundle
from tests.tiny_bundle import tiny_bundle

NETWORK = ["--image-size", "16", "--channel-mult", "1", "1", "--attention-resolutions", "8", "--iterations", "4"]

TINY_MAE = MAEConfig(image_size=16, patch_size=4, width=24, depth=3, num_heads=3)


@pytest.fixture
def images(tmp_path):
    rng = np.random.default_rng(0)
    folder = tmp_path / "images"
    folder.mkdir()
    for index in range(6):
        Image.fromarray(rng.integers(0, 255, (20, 16, 3), dtype=np.uint8)).save(folder / f"{index}.png")
    (folder / "broken.png").write_bytes(b"no image")
    return str(folder)


def _run(images: str, output: str, *more: str) -> int:
    return main(["--images", images, "--output", output, "--batch-size", "4", *NETWORK, *more])


def test_pretraining_writes_a_bundle_and_leaves_nothing_unfinished(images, tmp_path, capsys) -> None:
    output = tmp_path / "bundle"
    assert _run(images, str(output)) == 0
    bundle = load_bundle(str(output))
    assert bundle.provenance["training_images"] == 6
    assert sorted(path.name for path in output.iterdir()) == ["bundle.json", "noise.safetensors", "unet.safetensors"]
    assert str(output) in capsys.readouterr().out


def test_a_mae_is_pretrained_the_same_way(images, tmp_path, capsys) -> None:
    output = tmp_path / "bundle"
    network = ["--image-size", "16", "--patch-size", "4", "--width", "24", "--depth", "3"]
    flags = ["--images", images, "--output", str(output), "--batch-size", "4", "--iterations", "4", *network]
    assert pretrain_mae.main(flags) == 0
    assert load_bundle(str(output)).network == TINY_MAE
    assert sorted(path.name for path in output.iterdir()) == ["bundle.json", "mae.safetensors"]
    assert pretrain_mae.main([*flags, "--output", str(tmp_path / "other"), "--patch-size", "5"]) == 2
    assert "must be a multiple of patch_size 5" in capsys.readouterr().err


@pytest.mark.parametrize("workers", ["0", pytest.param("2", marks=pytest.mark.slow)])
def test_a_training_that_diverges_is_one_line_and_status_3(images, tmp_path, capsys, workers, request) -> None:
    if workers != "0":
        request.getfixturevalue("ray_cluster")
    output = tmp_path / "bundle"
    asked = ["--learning-rate", "1e30", "--iterations", "50", "--num-workers", workers]
    assert _run(images, str(output), *asked) == 3
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("stopped: the loss of the network is not a finite number at step ")
    assert "try a lower --learning-rate" in said
    assert not (output / "bundle.json").exists()


@pytest.mark.slow
def test_two_ray_train_workers_train_the_same_network_as_one_process(images, tmp_path, ray_cluster) -> None:
    assert _run(images, str(tmp_path / "one")) == 0
    assert _run(images, str(tmp_path / "two"), "--num-workers", "2") == 0
    one, two = load_bundle(str(tmp_path / "one")), load_bundle(str(tmp_path / "two"))
    for key, value in one.weights.items():
        torch.testing.assert_close(two.weights[key].float(), value.float(), rtol=0, atol=2e-3)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--iterations", "0"], "iterations must be positive"),
        (["--num-workers", "9"], "num_workers must be between 0 and the batch size 4"),
        (["--image-size", "17"], "image_size 17 must be a multiple of 2"),
        (["--images", "/nowhere"], "/nowhere"),
    ],
)
def test_wrong_use_is_one_line_and_writes_nothing(images, tmp_path, capsys, more, message) -> None:
    try:
        status = _run(images, str(tmp_path / "bundle"), *more)
    except SystemExit as refused:  # an option that cannot be, refused as it is read
        status = refused.code
    assert status == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "bundle" / "bundle.json").exists()


@pytest.mark.parametrize(("asked", "warned"), [("8", False), ("4", False), ("1", True), ("32", True)])
def test_attention_that_no_level_gets_is_said(images, tmp_path, capsys, caplog, asked, warned) -> None:
    network = ["--image-size", "8", "--attention-resolutions", asked, "--iterations", "1"]
    assert _run(images, str(tmp_path / "bundle"), *network) == 0
    warning = f"no attention: --attention-resolutions {asked}, but its levels have the sides 8, 4"
    assert (warning in caplog.text) == warned


@pytest.mark.parametrize("side", [None, 32])
def test_a_training_goes_on_from_a_bundles_network(images, tmp_path, side) -> None:
    """At a learning rate of almost zero the weights stay those that it began with, at any size of the images."""
    assert _run(images, str(tmp_path / "first"), "--fit", "stretch") == 0
    size = [] if side is None else ["--image-size", str(side)]
    asked = ["--images", images, "--batch-size", "4", "--iterations", "2", "--learning-rate", "1e-12", *size]
    assert main([*asked, "--start-from", str(tmp_path / "first"), "--output", str(tmp_path / "second")]) == 0
    header, first = open_bundle(str(tmp_path / "first"))
    second = load_bundle(str(tmp_path / "second"))
    assert second.network == replace(first.ddpm, unet=first.ddpm.unet.at_side(side or 16))
    assert second.provenance["started_from"] == header.model_id
    assert second.provenance["fit"] == "stretch"
    for name, weight in first.weights.items():
        torch.testing.assert_close(second.weights[name], weight)


def test_a_published_network_goes_on_without_its_variances(images, tmp_path) -> None:
    """Published networks have learnt them; here noise alone is learned."""
    unet = UNetConfig(
        image_size=16,
        num_channels=32,
        num_res_blocks=1,
        channel_mult=(1, 1),
        attention_resolutions=(8,),
        learn_sigma=True,
        num_head_channels=16,
        resblock_updown=True,
    )
    first = bundle(unet, FeatureConfig(steps=(10,), blocks=(0, 1)))
    save_bundle(first, str(tmp_path / "first"))
    asked = ["--images", images, "--batch-size", "4", "--iterations", "1", "--learning-rate", "1e-12"]
    assert main([*asked, "--start-from", str(tmp_path / "first"), "--output", str(tmp_path / "second")]) == 0
    second = load_bundle(str(tmp_path / "second"))
    assert second.ddpm.unet == replace(unet, learn_sigma=False)
    for name, weight in first.weights.items():
        expected = weight[: len(second.weights[name])].half()
        torch.testing.assert_close(second.weights[name], expected)


def test_a_start_is_part_of_an_unfinished_training(images, tmp_path, capsys, monkeypatch) -> None:
    assert _run(images, str(tmp_path / "first")) == 0
    asked = ["--start-from", str(tmp_path / "first")]
    with monkeypatch.context() as patch:
        patch.setattr("ddpm_seg.training.network.pretrain.save_bundle", Mock(side_effect=KeyboardInterrupt))
        assert _run(images, str(tmp_path / "second"), *asked) == 4
    assert _run(images, str(tmp_path / "second")) == 2
    assert "the interrupted training at" in capsys.readouterr().err
    assert _run(images, str(tmp_path / "second"), *asked) == 0


@pytest.mark.parametrize(
    ("network", "more", "message"),
    [
        (tiny_bundle(), ["--num-channels", "64"], "--num-channels is 64, but the network at {} has 32: leave it out"),
        (tiny_bundle(), ["--noise-schedule", "cosine"], "--noise-schedule is cosine, but the network at {} has linear"),
        (tiny_bundle(), ["--image-size", "17"], "image_size 17 must be a multiple of 2"),
        (
            backbone_bundle(MAEConfig(image_size=16, patch_size=4, width=24, depth=3, num_heads=3)),
            [],
            "this needs a DDPM, and the bundle holds a MAE",
        ),
        (backbone_bundle(TINY_DIFFUSERS), [], "--start-from {}: it is a network of diffusers"),
    ],
)
def test_a_start_that_cannot_be_is_one_line(images, tmp_path, capsys, network, more, message) -> None:
    start, output = str(tmp_path / "start"), tmp_path / "bundle"
    save_bundle(network, start)
    asked = ["--images", images, "--output", str(output), "--start-from", start, *more]
    assert main(asked) == 2
    error = capsys.readouterr().err
    assert message.format(start) in error
    assert error.count("\n") == 1
    assert not output.exists()


def test_a_finished_bundle_is_not_trained_over(images, tmp_path, capsys) -> None:
    assert _run(images, str(tmp_path / "bundle")) == 0
    assert _run(images, str(tmp_path / "bundle")) == 2
    assert "choose a new --output" in capsys.readouterr().err
