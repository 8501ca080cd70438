"""Checkpoints of rosinality's StyleGAN2, of e4e and of pSp: what is read of them, and how others are named."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ddpm_seg.model.published.style_encoders import load_gan_encoder, load_gan_inversion
from ddpm_seg.model.published.stylegan2 import MEAN_LATENTS, load_stylegan2
from tests.model.recorded_gans import encoder_state, inversion_checkpoint, rosinality_checkpoint, written

GAN = rosinality_checkpoint()
E4E = inversion_checkpoint()


def without(state: dict[str, Any], *prefixes: str) -> dict[str, Any]:
    return {key: value for key, value in state.items() if not key.startswith(prefixes)}


def changed(content: dict[str, Any], part: str, **tensors: Tensor) -> dict[str, Any]:
    return {**content, part: {**content[part], **{key.replace("__", "."): value for key, value in tensors.items()}}}


def same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> bool:
    return found.keys() == expected.keys() and all(torch.equal(found[key], expected[key]) for key in found)


def test_a_training_checkpoint_is_the_same(tmp_path: Path) -> None:
    training = {
        **GAN,
        "g": GAN["g_ema"],
        "d": {"final_conv.weight": torch.zeros(3)},
        "g_optim": {"state": {0: {"step": 3}}, "param_groups": [{"lr": 0.002}]},
        "args": argparse.Namespace(size=64, channel_multiplier=2),
        "ada_aug_p": 0.0,
    }
    config, weights, _ = load_stylegan2(written(tmp_path / "a.pt", GAN))
    again = load_stylegan2(written(tmp_path / "550000.pt", training))
    assert again[0] == config
    assert same(again[1], weights)


def test_the_mean_code_is_taken_of_many_where_a_file_lacks_it(tmp_path: Path) -> None:
    config, weights, notes = load_stylegan2(written(tmp_path / "550000.pt", {"g_ema": GAN["g_ema"]}))
    assert notes == {"latent_avg": f"mean over {MEAN_LATENTS} latents of seed 0"}
    network = config.build()
    network.load_state_dict(weights)
    latents = torch.randn(50_000, 48, generator=torch.Generator().manual_seed(5))
    with torch.inference_mode():
        codes = network.style(latents)
    assert (weights["latent_avg"] - codes.mean(dim=0)).abs().max() < 0.05 * codes.std()
    again = load_stylegan2(written(tmp_path / "again.pt", GAN["g_ema"]))
    assert same(again[1], weights)


def test_noise_is_drawn_once_where_a_file_lacks_it(tmp_path: Path) -> None:
    old = {**GAN, "g_ema": without(GAN["g_ema"], "noises.")}
    (_, first, notes), (_, second, _) = (load_stylegan2(written(tmp_path / f"{i}.pt", old)) for i in range(2))
    assert notes == {"noise": "drawn from seed 0"}
    assert same(first, second)
    assert abs(first["noises.noise_8"].std().item() - 1) < 0.05


def test_smaller_pictures(tmp_path: Path) -> None:
    path = written(tmp_path / "a.pt", GAN)
    assert load_stylegan2(path, 16)[0].image_size == 16
    with pytest.raises(ValueError, match=r"a\.pt: image_size is 128; expected 64, the side of this generator"):
        load_stylegan2(path, 128)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"g_ema": without(GAN["g_ema"], "convs.3.conv.weight")}, "lacks convs.3.conv.weight|missing"),
        ({"g_ema": without(GAN["g_ema"], "to_rgbs.2.bias")}, r"skip architecture: it lacks to_rgbs\.2\.bias"),
        (changed(GAN, "g_ema", more=torch.zeros(3)), "it has more, which the network lacks"),
        (changed(GAN, "g_ema", convs__0__conv__blur__kernel=torch.ones(4, 4)), r"kernel is another filter"),
        (changed(GAN, "g_ema", conv1__conv__weight=torch.zeros(3)), r"conv1\.conv\.weight is \(3,\), expected"),
        (changed(GAN, "g_ema", conv1__activate__bias=torch.full((32,), torch.nan)), "values that are not finite"),
        ({**GAN, "latent_avg": torch.zeros(7)}, r"latent_avg is \(7,\), expected \(48,\)"),
        ({"generator": GAN["g_ema"]}, "expected a plain state dict"),
        ({"g": {"a": torch.zeros(3)}, "g_ema": {"a": torch.zeros(3)}}, "not a StyleGAN2.*NVlabs'"),
        (E4E, "is an e4e or pSp checkpoint; use --gan-inversion or --gan-encoder"),
        (torch.zeros(3), "expected a plain state dict"),
    ],
)
def test_what_is_no_stylegan2_is_said_so(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(ValueError, match=rf"a\.pt.*({message})"):
        load_stylegan2(written(tmp_path / "a.pt", content))


@pytest.mark.parametrize("where", ["opts", "given"])
@pytest.mark.parametrize(("kind", "codes"), [("Encoder4Editing", "e4e"), ("GradualStyleEncoder", "psp")])
def test_the_two_encoders_are_told_apart(tmp_path: Path, kind: str, codes: Any, where: str) -> None:
    content = inversion_checkpoint(encoder_type=kind if where == "opts" else None)
    path = written(tmp_path / "encode.pt", content)
    if where == "given":
        with pytest.raises(ValueError, match=r"encode\.pt.*add --encoder-type e4e or --encoder-type psp"):
            load_gan_inversion(path, 64)
    config, _, _ = load_gan_inversion(path, 64, codes if where == "given" else None)
    assert config.codes == codes
    if where == "opts":
        with pytest.raises(ValueError, match=f"its opts say {kind}; leave out --encoder-type"):
            load_gan_inversion(path, 64, "psp" if codes == "e4e" else "e4e")


def test_options_may_be_a_namespace_and_a_training_beside_them(tmp_path: Path) -> None:
    whole = load_gan_inversion(written(tmp_path / "a.pt", E4E), 64)
    training = {
        **E4E,
        "opts": argparse.Namespace(**E4E["opts"]),
        "global_step": 5,
        "optimizer": {"state": {}},
        "discriminator_state_dict": {"a": torch.zeros(3)},
    }
    again = load_gan_inversion(written(tmp_path / "b.pt", training), 64)
    assert again[0] == whole[0]
    assert same(again[1], whole[1])


def test_codes_that_do_not_start_from_the_mean(tmp_path: Path) -> None:
    path = written(tmp_path / "a.pt", without(inversion_checkpoint(start_from_latent_avg=False), "latent_avg"))
    assert not load_gan_inversion(path, 64)[1]["latent_avg"].any()


def test_one_mean_code_serves_all_layers(tmp_path: Path) -> None:
    mean = torch.randn(128)
    _, weights, _ = load_gan_inversion(written(tmp_path / "a.pt", {**E4E, "latent_avg": mean}), 64)
    assert torch.equal(weights["latent_avg"], mean.expand(10, 128))


@pytest.mark.parametrize("load", [load_gan_encoder, load_gan_inversion])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            inversion_checkpoint(encoder_type="BackboneEncoderUsingLastLayerIntoWPlus"),
            "BackboneEncoderUsingLastLayerIntoWPlus; expected",
        ),
        (inversion_checkpoint(encoder_type="SingleStyleCodeEncoder"), "its encoder is a SingleStyleCodeEncoder"),
        (
            inversion_checkpoint(encoder_type="ProgressiveBackboneEncoder"),
            "ProgressiveBackboneEncoder; expected one",
        ),
        (changed(E4E, "state_dict", encoder__input_layer__0__weight=torch.zeros(16, 6, 3, 3)), "ReStyle's take 6"),
        (
            {**E4E, "state_dict": without(E4E["state_dict"], "encoder.latlayer1")},
            r"has no encoder\.latlayer1\.w",
        ),
        ({**E4E, "state_dict": without(E4E["state_dict"], "encoder.body.3.")}, r"it lacks .*body\.3\."),
        (changed(E4E, "state_dict", more=torch.zeros(3)), r"state_dict has more; expected encoder\.\* and decoder"),
        ({**E4E, "opts": 3}, "opts is int"),
        (GAN, "expected an e4e or pSp checkpoint, with a state_dict, got a dictionary with g_ema, latent_avg"),
        (torch.zeros(3), "got a Tensor"),
    ],
)
def test_what_is_no_encoder_is_said_so(tmp_path: Path, load: Any, content: Any, message: str) -> None:
    with pytest.raises(ValueError, match=rf"a\.pt.*({message})"):
        load(written(tmp_path / "a.pt", content), 64)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (inversion_checkpoint(stylegan_size=1024), "opts say stylegan_size 1024, but its decoder has 64 pixels"),
        (inversion_checkpoint(stylegan_size=None, output_size=128), "opts say output_size 128, but its decoder has 64"),
        (
            {**E4E, "state_dict": without(E4E["state_dict"], "encoder.styles.9.")},
            "9 style heads, but .* takes 10",
        ),
        (without(E4E, "latent_avg"), "it has no latent_avg, which its codes start from"),
        ({**E4E, "latent_avg": torch.zeros(3, 4)}, r"latent_avg is \(3, 4\), expected \(10, 128\)"),
        ({**E4E, "state_dict": without(E4E["state_dict"], "decoder.")}, r"conv1\.conv\.weight is missing"),
    ],
)
def test_what_a_gan_inversion_needs_besides(tmp_path: Path, content: Any, message: str) -> None:
    path = written(tmp_path / "a.pt", content)
    with pytest.raises(ValueError, match=rf"a\.pt.*({message})"):
        load_gan_inversion(path, 64)
    load_gan_encoder(path, 64)


def test_a_gan_encoder_needs_no_type(tmp_path: Path) -> None:
    """Its maps are those of both."""
    content = {"state_dict": {f"encoder.{key}": value for key, value in encoder_state("e4e_64", "x").items()}}
    assert load_gan_encoder(written(tmp_path / "a.pt", content), 96)[0].image_size == 96
