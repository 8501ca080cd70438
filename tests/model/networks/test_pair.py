"""Two networks as one: the maps of each, as it gives them by itself."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from ddpm_seg.model.bundle.ensemble_bundle import Bundle, load_bundle, save_bundle
from ddpm_seg.model.errors import BundleError
from ddpm_seg.model.features import FeatureConfig
from ddpm_seg.model.networks.diffusion.unet import UNetConfig
from ddpm_seg.model.networks.mae import MAEConfig
from ddpm_seg.model.networks.pair import PairConfig
from ddpm_seg.model.published.convert import ConvertConfig, convert
from ddpm_seg.model.resident import resident_extractor
from ddpm_seg.model.segmenter import Segmenter
from jobs import convert as convert_job
from tests.model.tiny_networks import TINY_MAE, TINY_SWAV, backbone_bundle, bundle, images, members, task

UNET = UNetConfig(
    image_size=32, num_channels=32, num_res_blocks=1, channel_mult=(1, 2), attention_resolutions=(), num_heads=1
)
ODD_MAE = MAEConfig(image_size=56, patch_size=8, width=16, depth=2, num_heads=2)
"""A grid of 7 x 7, beside one of 16 x 16."""


def joined(tmp_path: Path, first: Bundle, second: Bundle) -> Bundle:
    places = tuple(str(tmp_path / name) for name in ("a", "b"))
    for one, place in zip((first, second), places, strict=True):
        save_bundle(one, place)
    save_bundle(convert(ConvertConfig(pair=(places[0], places[1]), output="")), str(tmp_path / "pair"))
    return load_bundle(str(tmp_path / "pair"))


@pytest.fixture
def ddpm() -> Bundle:
    return bundle(UNET, FeatureConfig(steps=(50, 250), blocks=(1, 3)))


@torch.inference_mode()
@pytest.mark.parametrize("ddpm_first", [True, False])
def test_each_networks_maps_are_its_own(tmp_path: Path, ddpm: Bundle, ddpm_first: bool) -> None:
    mae = backbone_bundle(ODD_MAE)
    pair = joined(tmp_path, *((ddpm, mae) if ddpm_first else (mae, ddpm)))
    assert pair.network.image_size == 56
    assert (pair.members, pair.features) == ((), None)
    pictures = images(3, 56)
    small = np.stack([np.asarray(Image.fromarray(one).resize((32, 32), Image.Resampling.BILINEAR)) for one in pictures])
    of_ddpm = resident_extractor(ddpm, "cpu")(small, ddpm.features)  # type: ignore[arg-type]
    of_mae = resident_extractor(mae, "cpu")(pictures, mae.features)  # type: ignore[arg-type]
    expected = [*of_ddpm, *of_mae] if ddpm_first else [*of_mae, *of_ddpm]
    features = pair.network.published_features()
    found = resident_extractor(pair, "cpu")(pictures, features, micro_batch=2)
    assert [one.shape[1] for one in found] == features.channels(pair.network)
    assert [one.shape[2] for one in found] == features.sides(pair.network)
    assert 7 in features.sides(pair.network)
    for actual, wanted in zip(found, expected, strict=True):
        # PIL and torch round a few pixels of the smaller image differently.
        assert (actual - wanted).abs().max() <= 0.02 * wanted.abs().max()


@torch.inference_mode()
def test_blocks_count_through_both_at_every_step(tmp_path: Path, ddpm: Bundle) -> None:
    pair = joined(tmp_path, ddpm, backbone_bundle(TINY_MAE))
    depth, extract, pictures = len(ddpm.network.block_channels), resident_extractor(pair, "cpu"), images(2, 32)
    assert len(pair.network.block_channels) == 2 * depth + 3
    every = extract(pictures, FeatureConfig(steps=(), blocks=tuple(range(2 * depth + 3))))
    for blocks in ((depth,), (2 * depth + 1,), (2 * depth + 2, 0, depth + 1)):
        found = extract(pictures, FeatureConfig(steps=(), blocks=blocks))
        for actual, index in zip(found, sorted(blocks), strict=True):
            torch.testing.assert_close(actual, every[index], rtol=0, atol=1e-4)


def test_grids_that_do_not_divide_each_other_make_labels(tmp_path: Path, ddpm: Bundle) -> None:
    pair = joined(tmp_path, ddpm, backbone_bundle(ODD_MAE))
    features = pair.network.published_features()
    trained = dataclasses.replace(
        pair, features=features, task=task(5), members=tuple(members(2, 5, sum(features.channels(pair.network))))
    )
    save_bundle(trained, str(tmp_path / "trained"))
    found = Segmenter(load_bundle(str(tmp_path / "trained"))).segment(images(3, 56))
    assert [one.label.shape for one in found] == [(56, 56)] * 3


def test_its_bundle(tmp_path: Path, ddpm: Bundle) -> None:
    pair = joined(tmp_path, ddpm, backbone_bundle(TINY_SWAV))
    content = json.loads((tmp_path / "pair" / "bundle.json").read_text())
    assert content["schema_version"] == 4
    assert [next(iter(part)) for part in content["pair"]] == ["unet", "swav"]
    assert [one["bundle"] for one in content["provenance"]["converted"]["pair"]] == ["a", "b"]
    assert isinstance(pair.network, PairConfig)
    assert torch.equal(pair.weights["first_noise"], ddpm.noise)  # type: ignore[arg-type]
    assert pair.network.peak_values > max(part.network.peak_values for part in pair.network.parts)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda pair: pair.pop(), "expected a list of two networks"),
        (lambda pair: pair[0].pop("unet"), "describes no network"),
        (lambda pair: pair[0].update(features=None), r"pair\[0\]\.features is None"),
        (lambda pair: pair[1]["features"].update(blocks=[99]), r"blocks must lie in 0\.\.2"),
        (lambda pair: pair.__setitem__(0, {"pair": [{}, {}]}), "is a pair itself"),
    ],
)
def test_a_damaged_description_is_refused(tmp_path: Path, ddpm: Bundle, change: Any, named: str) -> None:
    joined(tmp_path, ddpm, backbone_bundle(TINY_MAE))
    path = tmp_path / "pair" / "bundle.json"
    content = json.loads(path.read_text())
    change(content["pair"])
    path.write_text(json.dumps(content))
    with pytest.raises(BundleError, match=named):
        load_bundle(str(tmp_path / "pair"))


def test_what_cannot_be_paired(tmp_path: Path, ddpm: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    joined(tmp_path, ddpm, backbone_bundle(TINY_MAE))
    a, b, pair, out = (str(tmp_path / name) for name in ("a", "b", "pair", "out"))
    for command, said in (
        (["--pair", a, pair, "--output", out], "holds a pair already"),
        (["--pair", a, str(tmp_path / "none"), "--output", out], "no model bundle at"),
        (["--pair", a, b, "--image-size", "64", "--output", out], "--pair cannot be combined with --image-size"),
    ):
        assert convert_job.main(command) == 2
        assert said in capsys.readouterr().err
    with pytest.raises(ValueError, match="int8"):
        resident_extractor(load_bundle(pair), "cpu", "int8")
