"""The classifiers' fast path equals the plain one on the maps of every network whose published outputs are recorded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ddpm_seg.benchmark import transcription
from ddpm_seg.model.bundle.ensemble_bundle import Bundle
from ddpm_seg.model.ensemble import Ensemble
from ddpm_seg.model.published.convert import convert
from ddpm_seg.model.published.convert_config import ConvertConfig
from ddpm_seg.model.resident import resident_drawer, resident_extractor
from ddpm_seg.model.samples.sampling import SamplingConfig
from tests.model import recorded_gans, recorded_vdvae_alae
from tests.model.networks.style import test_stylegan
from tests.model.tiny_networks import assert_close, images, members

Writer = Callable[[Path], dict[str, Any]]


def vdvae(path: Path) -> dict[str, Any]:
    flags = " ".join(f"--{name} {value}" for name, value in recorded_vdvae_alae.VDVAE32_FLAGS.items())
    return {
        "vdvae": recorded_vdvae_alae.save(path, recorded_vdvae_alae.state("vdvae32")),
        "model_flags": flags,
    }


def alae(path: Path) -> dict[str, Any]:
    return {"alae": recorded_vdvae_alae.save_alae(path, recorded_vdvae_alae.state("alae128"))}


def alae_enlarged(path: Path) -> dict[str, Any]:
    return {**alae(path), "image_size": 32}


def gan_encoder(path: Path) -> dict[str, Any]:
    return {"gan_encoder": recorded_gans.written(path, recorded_gans.inversion_checkpoint()), "image_size": 64}


def gan_inversion(path: Path) -> dict[str, Any]:
    return {"gan_inversion": recorded_gans.written(path, recorded_gans.inversion_checkpoint()), "image_size": 64}


def stylegan2(path: Path) -> dict[str, Any]:
    return {"stylegan2": recorded_gans.written(path, recorded_gans.rosinality_checkpoint())}


def stylegan2_reduced(path: Path) -> dict[str, Any]:
    return {**stylegan2(path), "image_size": 32}


def nvlabs(_: Path) -> dict[str, Any]:
    return {"stylegan2": str(recorded_gans.GOLDEN / "nv_32.pkl")}


def tensorflow(_: Path) -> dict[str, Any]:
    return {"stylegan2": str(recorded_gans.GOLDEN / "tf_32.pkl")}


def stylegan(path: Path) -> dict[str, Any]:
    return {"stylegan": recorded_gans.written(path, test_stylegan.state())}


WRITERS = (
    *(vdvae, alae, alae_enlarged, gan_encoder, gan_inversion),
    *(stylegan2, stylegan2_reduced, nvlabs, tensorflow, stylegan),
)


@torch.inference_mode()
def maps_of(bundle: Bundle, count: int) -> list[Tensor]:
    """Of `count` images, or of samples where the network draws its own."""
    network, features = bundle.network, bundle.network.published_features()
    if network.reads_images:
        return resident_extractor(bundle, "cpu")(images(count, network.image_size), features)
    drawn = resident_drawer(bundle, SamplingConfig(), "cpu").draw(0, range(count), features)
    return [torch.cat(maps) for maps in zip(*(one.maps or [] for one in drawn), strict=True)]


@pytest.mark.parametrize("write", WRITERS, ids=lambda write: write.__name__)
@torch.inference_mode()
def test_the_fast_head_equals_the_plain_one(tmp_path: Path, write: Writer) -> None:
    bundle = convert(ConvertConfig(output="x", **write(tmp_path / "checkpoint.pt")))
    network, features = bundle.network, bundle.network.published_features()
    size = (network.image_size, network.image_size)
    models = members(3, 15, sum(features.channels(network)))
    fast = Ensemble(
        models, channels=features.channels(network), sides=features.sides(network), upsample_mode="bilinear"
    )
    for count in (1, 3):
        maps = maps_of(bundle, count)
        assert [one.shape[2] for one in maps] == features.sides(network)
        for index, votes in enumerate(fast(maps, size)):
            pixels_PD = transcription.pixel_features([one[index] for one in maps], size, "bilinear")
            logits_MPK = torch.stack([transcription.classifier(member)(pixels_PD) for member in models])
            label_P, doubt_P, mean_PK, _ = transcription.ensemble(logits_MPK)
            assert (votes.label.flatten() == label_P).float().mean() >= 0.9999
            torch.testing.assert_close(votes.uncertainty.flatten(), doubt_P, atol=1e-5, rtol=0)
            assert_close(votes.probabilities.flatten(1).T, mean_PK)
            hidden = fast.first_layer([one[index] for one in maps])
            for actual, expected in zip(fast.logits(hidden, range(size[0]), size), logits_MPK, strict=True):
                assert_close(actual, expected)
        assert len(np.unique(votes.label)) > 1
