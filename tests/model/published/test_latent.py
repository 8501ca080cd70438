"""Stable Diffusion 1, 2 and XL in diffusers' format: what diffusers writes and computes is the reference."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from diffusers import DiffusionPipeline

from ddpm_seg.model.bundle.ensemble_bundle import load_bundle, save_bundle
from ddpm_seg.model.errors import BundleError
from ddpm_seg.model.features import FeatureConfig
from ddpm_seg.model.networks.pixel_values import to_network
from ddpm_seg.model.published.convert import ConvertConfig, convert
from ddpm_seg.model.resident import resident_extractor
from tests.model.published import refusals
from tests.model.published.tiny_diffusers import stable_diffusion, stable_diffusion_xl
from tests.model.tiny_networks import assert_close, images


@torch.no_grad()
@pytest.mark.parametrize(("write", "prompt"), [(stable_diffusion, ""), (stable_diffusion_xl, "a cat")])
def test_features_are_those_of_diffusers(write: Callable[[Path], str], prompt: str, tmp_path: Path) -> None:
    folder = write(tmp_path / "folder")
    pipeline: Any = DiffusionPipeline.from_pretrained(folder)
    outputs: list[torch.Tensor] = []
    for block in pipeline.unet.up_blocks:
        block.register_forward_hook(lambda module, given, output: outputs.append(output))
    told, *rest = pipeline.encode_prompt(
        prompt, device="cpu", num_images_per_prompt=1, do_classifier_free_guidance=False
    )
    for side in (32, 64):
        bundle = convert(ConvertConfig(diffusers=folder, prompt=prompt, image_size=side, output=""))
        save_bundle(bundle, str(tmp_path / str(side)))
        bundle = load_bundle(str(tmp_path / str(side)))
        assert_close(bundle.weights["prompt"], told, 1e-5)
        added = {}
        if write is stable_diffusion_xl:  # which is also told the whole prompt, and sizes
            sizes = pipeline._get_add_time_ids((side, side), (0, 0), (side, side), torch.float32, rest[1].shape[1])
            added = {"text_embeds": rest[1], "time_ids": sizes}
        features = FeatureConfig(steps=(50, 250), blocks=(0, 1, 2))
        for count in (1, 3):
            pictures = images(count, side)
            found = resident_extractor(bundle, "cpu")(pictures, features, micro_batch=2)
            latents = (
                pipeline.vae.encode(to_network(pictures, "cpu")).latent_dist.mode() * pipeline.vae.config.scaling_factor
            )
            outputs.clear()
            for step in features.steps:
                t = torch.full((count,), step)
                noisy = pipeline.scheduler.add_noise(latents, bundle.noise.expand_as(latents), t)
                each = {name: value.expand(count, -1) for name, value in added.items()}
                pipeline.unet(noisy, t, encoder_hidden_states=told.expand(count, -1, -1), added_cond_kwargs=each)
            assert [one.shape[1] for one in found] == features.channels(bundle.network)
            assert [one.shape[2] for one in found] == features.sides(bundle.network)
            for ours, theirs in zip(found, outputs, strict=True):
                assert_close(ours, theirs, 1e-5)


def test_what_is_chosen_if_nothing_is_said(tmp_path: Path) -> None:
    bundle = convert(ConvertConfig(diffusers=stable_diffusion(tmp_path / "sd"), output=""))
    assert (bundle.network.image_size, bundle.network.noise_shape) == (32, (1, 4, 16, 16))
    features = bundle.network.published_features()
    assert (features.steps, features.blocks) == ((100,), (0, 1))
    assert bundle.provenance["converted"]["prompt"] == ""
    assert bundle.network.peak_values > 0


@torch.no_grad()
def test_nothing_is_computed_after_the_last_block(tmp_path: Path) -> None:
    network: Any = convert(ConvertConfig(diffusers=stable_diffusion(tmp_path), output="")).network.build()
    network.unet.up_blocks[2] = torch.nn.Module()
    maps = network.activations(torch.zeros(1, 4, 16, 16), torch.zeros(1), [0])
    assert [one.shape for one in maps] == [(1, 32, 8, 8)]


def test_the_text_encoders_give_what_the_unet_takes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = Path(stable_diffusion_xl(tmp_path / "folder")) / "unet" / "config.json"
    whole = json.loads(path.read_text())
    for change, named in (
        ({"addition_embed_type": None}, "it takes 0 values of the whole prompt, but the text encoders give 24"),
        ({"addition_time_embed_dim": 9}, "it takes 18 values of the whole prompt, but the text encoders give 24"),
        ({"addition_time_embed_dim": 80}, "that leave room for 6 times the first"),
        ({"addition_embed_type": "image"}, "unet.addition_embed_type is 'image'"),
    ):
        path.write_text(json.dumps({**whole, **change}))
        assert_refused(tmp_path, named, capsys)


def test_one_clean_pass(tmp_path: Path) -> None:
    """As CleanDIFT's UNet is used: one step, without noise."""
    np.save(tmp_path / "none.npy", np.zeros((1, 4, 16, 16), np.float32))
    folder = stable_diffusion(tmp_path / "sd")
    bundle = convert(ConvertConfig(diffusers=folder, noise=str(tmp_path / "none.npy"), output=""))
    features = FeatureConfig(steps=(0,), blocks=(1,))
    assert len(resident_extractor(bundle, "cpu")(images(2, 32), features)) == 1


def assert_refused(tmp_path: Path, named: str, capsys: pytest.CaptureFixture[str], *more: str) -> None:
    refusals.assert_refused("--diffusers", tmp_path, re.escape(named), capsys, *more)


@pytest.mark.parametrize("name", ["StableDiffusion3Pipeline", "FluxPipeline", "DiTPipeline"])
def test_other_latent_pipelines_are_refused_by_name(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = Path(stable_diffusion(tmp_path / "folder")) / "model_index.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "_class_name": name}))
    assert_refused(tmp_path, name, capsys)


@pytest.mark.parametrize(
    ("part", "change", "named"),
    [
        ("unet", {"wings": 2}, "'wings' is no argument of diffusers' UNet2DConditionModel"),
        ("unet", {"_class_name": "FluxTransformer2DModel"}, "its network is a 'FluxTransformer2DModel'"),
        ("unet", {"addition_embed_type": "text_time"}, "unet.addition_embed_type is 'text_time'"),
        ("unet", {"in_channels": 9}, "unet.in_channels is 9, but the autoencoder has 4 latent_channels"),
        ("unet", {"block_out_channels": [16, 32]}, "cannot be built"),
        ("vae", {"block_out_channels": None}, "block_out_channels"),
        ("vae", {"layers_per_block": 10**6}, "layers_per_block"),
        ("text_encoder", {"model_type": "t5"}, "model_type is 't5', expected clip_text_model"),
    ],
)
def test_what_the_parts_may_not_say(
    part: str, change: dict[str, Any], named: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = Path(stable_diffusion(tmp_path / "folder")) / part / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    assert_refused(tmp_path, named, capsys)


@pytest.mark.parametrize(
    ("part", "stem", "key"),
    [
        ("unet", "diffusion_pytorch_model", "conv_in.bias"),
        ("vae", "diffusion_pytorch_model", "quant_conv.bias"),
        ("text_encoder", "model", None),
    ],
)
def test_weights_that_do_not_fit(
    part: str, stem: str, key: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = Path(stable_diffusion(tmp_path / "folder")) / part / f"{stem}.safetensors"
    state = safetensors.torch.load_file(path)
    key = key or next(name for name in state if name.endswith("final_layer_norm.bias"))
    for named, changed in (
        (key, {name: value for name, value in state.items() if name != key}),
        ("wing", {**state, "wing": torch.zeros(2)}),
        (f"{key} has values that are not finite", {**state, key: torch.full_like(state[key], torch.nan)}),
    ):
        safetensors.torch.save_file(changed, path)
        assert_refused(tmp_path, named, capsys)
    path.unlink()
    torch.save(
        {key: refusals.Harmful()},
        path.parent / f"{stem.replace('model', 'pytorch_model') if part == 'text_encoder' else stem}.bin",
    )
    assert_refused(tmp_path, "refused: it needs", capsys)


def test_a_damaged_description_is_refused(tmp_path: Path) -> None:
    save_bundle(convert(ConvertConfig(diffusers=stable_diffusion(tmp_path / "sd"), output="")), str(tmp_path / "out"))
    path = tmp_path / "out" / "bundle.json"
    whole = json.loads(path.read_text())
    for change, named in (
        ({"unet": None}, "unet is None, expected an object"),
        ({"prompt_tokens": -1}, "prompt_tokens must be at least 1"),
        ({"image_size": 36}, "must be a multiple of 8"),
        ({"wings": 1}, "'wings' is unknown"),
    ):
        path.write_text(json.dumps({**whole, "latent_diffusion": {**whole["latent_diffusion"], **change}}))
        with pytest.raises(BundleError, match=named):
            load_bundle(str(tmp_path / "out"))
