"""Networks in timm's format: what timm writes and computes is the reference."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import timm
import torch

from ddpm_seg.model.bundle.ensemble_bundle import load_bundle, read_header, save_bundle
from ddpm_seg.model.errors import BundleError
from ddpm_seg.model.features import FeatureConfig
from ddpm_seg.model.published.convert import ConvertConfig, convert
from ddpm_seg.model.resident import resident_extractor
from tests.model.published import refusals
from tests.model.published.tiny_backbones import TIMM, timm_folder
from tests.model.tiny_networks import assert_close, images


@torch.no_grad()
@pytest.mark.parametrize("name", TIMM)
def test_features_are_those_of_timm(name: str, tmp_path: Path) -> None:
    folder, multiple = timm_folder(tmp_path / "folder", name), TIMM[name][1]
    for side in (2 * multiple, 4 * multiple):
        bundle = convert(ConvertConfig(timm=folder, image_size=side, output=""))
        save_bundle(bundle, str(tmp_path / str(side)))
        bundle = load_bundle(str(tmp_path / str(side)))
        # A vision transformer is resized by timm while it reads the weights; windows grow with the image.
        fixed = {"img_size": side} if "img_size" in TIMM[name][0] and "swin" not in name else {}
        reference = timm.create_model(f"local-dir:{folder}", pretrained=True, num_classes=0, **fixed).eval()
        if "swin" in name:
            reference.set_input_size(img_size=side)
        every = FeatureConfig(steps=(), blocks=tuple(range(len(bundle.network.block_channels))))
        extract = resident_extractor(bundle, "cpu")
        for count in (1, 3):
            pictures = images(count, side)
            config = reference.pretrained_cfg
            x = (torch.from_numpy(pictures).permute(0, 3, 1, 2) / 255 - torch.tensor(config["mean"])[:, None, None]) / (
                torch.tensor(config["std"])[:, None, None]
            )
            theirs = reference.forward_intermediates(x, intermediates_only=True)
            ours = extract(pictures, every)
            assert [one.shape[1] for one in ours] == every.channels(bundle.network)
            assert [one.shape[2] for one in ours] == every.sides(bundle.network)
            for actual, expected in zip(ours, theirs, strict=True):
                assert_close(actual, expected, 1e-5)


def test_the_preprocessing_is_the_folders_own(tmp_path: Path) -> None:
    path = Path(timm_folder(tmp_path)) / "config.json"
    content = json.loads(path.read_text())
    content["pretrained_cfg"] |= {"mean": [0.1, 0.2, 0.3], "std": [0.5, 0.25, 1]}
    path.write_text(json.dumps(content))
    network = convert(ConvertConfig(timm=str(tmp_path), image_size=32, output="")).network
    white = network.preprocess(np.full((1, 1, 1, 3), 255, np.uint8), "cpu").flatten().tolist()  # type: ignore[attr-defined]
    assert white == pytest.approx([0.9 / 0.5, 0.8 / 0.25, 0.7])


@pytest.mark.parametrize(
    ("name", "side"), [("vit_small_patch16_dinov3", 512), ("vit_small_patch14_reg4_dinov2", 56), ("convnext_tiny", 224)]
)
def test_what_is_chosen_if_nothing_is_said(name: str, side: int, tmp_path: Path) -> None:
    network = convert(ConvertConfig(timm=timm_folder(tmp_path, name), output="")).network
    assert network.image_size == side
    assert network.published_features().blocks == ((0, 1, 2, 3) if "conv" in name else (1, 3, 5, 7))


@torch.no_grad()
def test_nothing_is_computed_after_the_last_block(tmp_path: Path) -> None:
    network = convert(ConvertConfig(timm=timm_folder(tmp_path), image_size=32, output="")).network.build()
    network.network.blocks[2] = torch.nn.Module()
    network.network.norm = torch.nn.Module()
    assert [one.shape for one in network.activations(torch.zeros(1, 3, 32, 32), (1,))] == [(1, 32, 2, 2)]


def test_memory_at_the_peak_grows_with_the_image_and_holds_the_maps(tmp_path: Path) -> None:
    small, large = (
        convert(ConvertConfig(timm=timm_folder(tmp_path), image_size=side, output="")).network for side in (64, 128)
    )
    maps = sum(channels * side**2 for channels, side in zip(small.block_channels, small.block_sides, strict=True))
    assert maps < small.peak_values < 10 * maps
    assert 3 < large.peak_values / small.peak_values < 5


def test_the_bundle_says_where_it_comes_from(tmp_path: Path) -> None:
    header = save_bundle(
        convert(ConvertConfig(timm=timm_folder(tmp_path / "my-dinov3"), image_size=32, output="")),
        str(tmp_path / "out"),
    )
    assert header.provenance["converted"] == {"timm": "my-dinov3", "license": "dinov3-license"}
    assert header.to_json()["schema_version"] == 4


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"architecture": "vit_of_nobody"}, "no network vit_of_nobody"),
        ({"architecture": "hf-hub:someone/else"}, "name must be a name of timm"),
        ({"model_args": {"embed_dim": 32, "wings": 2}}, "wings"),
        ({"model_args": {"checkpoint_path": "/etc/passwd"}}, "'checkpoint_path' is no argument"),
        ({"model_args": {"pretrained": True}}, "'pretrained' is no argument"),
        ({"model_args": {"depth": 10**6}}, "depth.*at most 256"),
        ({"model_args": [1]}, r"model_args is \[1\], expected an object"),
        ({"pretrained_cfg": None}, "pretrained_cfg is None, expected an object"),
        ({"pretrained_cfg": {"input_size": [3, 32, 32], "mean": [1], "std": [1, 1, 1]}}, "pretrained_cfg.mean is"),
        ({"pretrained_cfg": {"input_size": [1, 32, 32]}}, "input_size is"),
    ],
)
def test_what_config_json_may_not_say(
    change: dict[str, Any], named: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = Path(timm_folder(tmp_path / "folder")) / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    assert_refused(tmp_path, named, capsys)


def assert_refused(tmp_path: Path, named: str, capsys: pytest.CaptureFixture[str], *more: str) -> None:
    refusals.assert_refused("--timm", tmp_path, named, capsys, *more)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda state: state.pop("blocks.1.norm1.bias"), r"it lacks blocks\.1\.norm1\.bias"),
        (lambda state: state.update(wing=torch.zeros(2)), "it has wing, which the network lacks"),
        (lambda state: state.update({"norm.bias": torch.zeros(3)}), r"norm\.bias is \(3,\), expected \(32,\)"),
        (lambda state: state["norm.bias"].fill_(torch.nan), "norm.bias has values that are not finite"),
    ],
)
def test_weights_that_do_not_fit(change: Any, named: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = Path(timm_folder(tmp_path / "folder")) / "model.safetensors"
    state = safetensors.torch.load_file(path)
    change(state)
    safetensors.torch.save_file(state, path)
    assert_refused(tmp_path, named, capsys)


def test_a_pickle_that_runs_code_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = Path(timm_folder(tmp_path / "folder"))
    (folder / "model.safetensors").unlink()
    torch.save({"norm.weight": refusals.Harmful()}, folder / "pytorch_model.bin")
    assert_refused(tmp_path, "refused: it needs .*print", capsys)


def test_sides_that_do_not_fit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    timm_folder(tmp_path / "folder")
    assert_refused(tmp_path, "--image-size 100 must be a multiple of this network's 16", capsys, "--image-size", "100")


def test_a_bundle_that_lies_about_its_maps_is_refused(tmp_path: Path) -> None:
    folder = timm_folder(tmp_path / "folder")
    save_bundle(convert(ConvertConfig(timm=folder, image_size=32, output="")), str(tmp_path / "out"))
    path = tmp_path / "out" / "bundle.json"
    content = json.loads(path.read_text())
    content["timm"]["block_sides"][0] = 3
    path.write_text(json.dumps(content))
    with pytest.raises(BundleError, match="its maps are"):
        load_bundle(str(tmp_path / "out"))


def test_a_bundle_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = timm_folder(tmp_path / "folder")
    save_bundle(convert(ConvertConfig(timm=folder, image_size=32, output="")), str(tmp_path / "out"))
    monkeypatch.setitem(sys.modules, "timm", None)
    assert read_header(str(tmp_path / "out")).network.image_size == 32
    with pytest.raises(BundleError, match=r"pip install 'ddpm_seg\[timm\]'"):
        load_bundle(str(tmp_path / "out"))
