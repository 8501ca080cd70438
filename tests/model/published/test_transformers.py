"""Networks in transformers' format: what transformers writes and computes is the reference."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
import transformers
from torch import Tensor

from ddpm_seg.model.bundle.ensemble_bundle import load_bundle, read_header, save_bundle
from ddpm_seg.model.errors import BundleError
from ddpm_seg.model.features import FeatureConfig
from ddpm_seg.model.published.convert import ConvertConfig, convert
from ddpm_seg.model.resident import resident_extractor
from tests.model.published import refusals
from tests.model.published.tiny_backbones import TRANSFORMERS, transformers_folder
from tests.model.tiny_networks import assert_close, images


def of_library(folder: str, name: str, x: Tensor) -> list[Tensor]:
    """transformers' own hidden states, after each block, as maps."""
    model = getattr(transformers, TRANSFORMERS[name][0]).from_pretrained(folder).eval()
    inputs = {"pixel_values": x}
    patch = getattr(getattr(model.config, "vision_config", model.config), "patch_size", None)
    if name == "siglip2":
        from transformers.models.siglip2.image_processing_siglip2 import convert_image_to_patches

        patches = torch.stack([convert_image_to_patches(one, patch) for one in x])
        shape = torch.tensor([[x.shape[2] // patch, x.shape[3] // patch]] * len(x))
        mask = torch.ones(patches.shape[:2], dtype=torch.int64)
        inputs = {"pixel_values": patches, "spatial_shapes": shape, "pixel_attention_mask": mask}
    if name.startswith("siglip"):
        model = getattr(model, "vision_model", model)
        inputs |= {"interpolate_pos_encoding": True} if name != "siglip2" else {}
    states = model(**inputs, output_hidden_states=True).hidden_states
    if patch is None:
        return [state for state in states if state.shape[1] != 3]
    side = x.shape[-1] // patch
    return [state[:, -(side**2) :].transpose(1, 2).reshape(len(x), -1, side, side) for state in states[1:]]


@torch.no_grad()
@pytest.mark.parametrize("name", TRANSFORMERS)
def test_features_are_those_of_transformers(name: str, tmp_path: Path) -> None:
    folder = transformers_folder(tmp_path / "folder", name)
    multiple = {"dinov3_convnext": 32}.get(name, 14 if name.startswith(("dinov2", "tips")) else 16)
    for side in (2 * multiple, 4 * multiple):
        bundle = convert(ConvertConfig(transformers=folder, image_size=side, output=""))
        save_bundle(bundle, str(tmp_path / str(side)))
        bundle = load_bundle(str(tmp_path / str(side)))
        extract = resident_extractor(bundle, "cpu")
        every = FeatureConfig(steps=(), blocks=tuple(range(len(bundle.network.block_channels))))
        for count in (1, 3):
            pictures = images(count, side)
            ours = extract(pictures, every)
            theirs = of_library(folder, name, bundle.network.preprocess(pictures, "cpu"))  # type: ignore[attr-defined]
            assert [one.shape[1] for one in ours] == every.channels(bundle.network)
            for actual, expected in zip(ours, theirs, strict=True):
                assert_close(actual, expected, 1e-5)


@torch.no_grad()
def test_nothing_is_computed_after_the_last_block(tmp_path: Path) -> None:
    folder = transformers_folder(tmp_path, "dinov3_vit")
    network = convert(ConvertConfig(transformers=folder, image_size=32, output="")).network.build()
    network.network.model.layer[2] = torch.nn.Module()
    maps = network.activations(torch.zeros(1, 3, 32, 32), (0, 1))
    assert [one.shape for one in maps] == [(1, 32, 2, 2)] * 2
    assert len(network.network.model.layer) == 8


def test_the_preprocessing_is_the_folders_own(tmp_path: Path) -> None:
    folder = transformers_folder(tmp_path)
    transformers.BitImageProcessor(image_mean=[0.1, 0.2, 0.3], image_std=[0.5, 0.25, 1.0]).save_pretrained(folder)
    network: Any = convert(ConvertConfig(transformers=folder, output="")).network
    assert (network.mean, network.deviation) == ((0.1, 0.2, 0.3), (0.5, 0.25, 1.0))
    path = tmp_path / "preprocessor_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "do_normalize": False}))
    network = convert(ConvertConfig(transformers=folder, output="")).network
    assert (network.mean, network.deviation) == ((0, 0, 0), (1, 1, 1))
    path.write_text(json.dumps({**json.loads(path.read_text()), "rescale_factor": 1.0}))
    with pytest.raises(ValueError, match=r"rescale_factor is 1\.0"):
        convert(ConvertConfig(transformers=folder, output=""))


@pytest.mark.parametrize(
    ("name", "side"),
    [("dinov2", 56), ("dinov3_vit", 512), ("dinov3_convnext", 512), ("radio", 512), ("siglip", 32), ("siglip2", 64)],
)
def test_what_is_chosen_if_nothing_is_said(name: str, side: int, tmp_path: Path) -> None:
    network = convert(ConvertConfig(transformers=transformers_folder(tmp_path, name), output="")).network
    assert network.image_size == side
    assert network.published_features().blocks == ((0, 1, 2, 3) if "conv" in name else (1, 3, 5, 7))


def test_the_licence_is_that_of_the_model_card(tmp_path: Path) -> None:
    folder = transformers_folder(tmp_path / "my-dinov3", "dinov3_vit")
    card = "---\nlibrary_name: transformers\nlicense: other\nlicense_name: dinov3-license\n---\nlicense: mit\n"
    (tmp_path / "my-dinov3" / "README.md").write_text(card)
    provenance = convert(ConvertConfig(transformers=folder, image_size=32, output="")).provenance
    assert provenance["converted"] == {"transformers": "my-dinov3", "license": "dinov3-license"}


def assert_refused(tmp_path: Path, named: str, capsys: pytest.CaptureFixture[str], *more: str) -> None:
    refusals.assert_refused("--transformers", tmp_path, named, capsys, *more)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"model_type": "bert"}, "model_type is 'bert', expected one of dinov2"),
        ({"wings": 2}, "'wings' is no argument of transformers' Dinov2WithRegistersConfig"),
        ({"num_hidden_layers": 10**6}, "num_hidden_layers.*at most 256"),
        ({"hidden_size": "wide"}, "hidden_size"),
        ({"hidden_size": 33}, "33"),
        ({"hidden_act": "exec"}, "exec"),
    ],
)
def test_what_config_json_may_not_say(
    change: dict[str, Any], named: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = Path(transformers_folder(tmp_path / "folder")) / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    assert_refused(tmp_path, named, capsys)


def test_remote_code_and_kernels_are_left_alone(tmp_path: Path) -> None:
    """A config.json can name code on the hub; neither it nor a kernel is asked for."""
    folder = transformers_folder(tmp_path / "folder")
    path = tmp_path / "folder" / "config.json"
    strange = {"auto_map": {"AutoModel": "evil.Model"}, "_attn_implementation": "someone/kernel"}
    path.write_text(json.dumps({**json.loads(path.read_text()), **strange, "attn_implementation": "someone/kernel"}))
    (tmp_path / "folder" / "evil.py").write_text("raise SystemExit('ran')")
    network: Any = convert(ConvertConfig(transformers=folder, image_size=28, output="")).network
    assert not network.arguments.keys() & (strange.keys() | {"attn_implementation"})


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda state: state.pop("encoder.layer.1.norm1.bias"), r"it lacks encoder\.layer\.1\.norm1\.bias"),
        (lambda state: state.update(wing=torch.zeros(2)), "it has wing"),
        (
            lambda state: state.update({"layernorm.bias": torch.zeros(3)}),
            r"layernorm\.bias is \(3,\), expected \(32,\)",
        ),
        (lambda state: state["layernorm.bias"].fill_(torch.nan), "layernorm.bias has values that are not finite"),
    ],
)
def test_weights_that_do_not_fit(change: Any, named: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = Path(transformers_folder(tmp_path / "folder")) / "model.safetensors"
    state = safetensors.torch.load_file(path)
    change(state)
    safetensors.torch.save_file(state, path)
    assert_refused(tmp_path, named, capsys)


def test_a_pickle_that_runs_code_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = Path(transformers_folder(tmp_path / "folder"))
    (folder / "model.safetensors").unlink()
    torch.save({"layernorm.weight": refusals.Harmful()}, folder / "pytorch_model.bin")
    assert_refused(tmp_path, "refused: it needs .*print", capsys)


def test_sides_that_do_not_fit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    transformers_folder(tmp_path / "folder")
    assert_refused(tmp_path, "--image-size 100 must be a multiple of this network's 14", capsys, "--image-size", "100")


@pytest.mark.parametrize("change", [{"wings": 1}, {"_attn_implementation": "someone/kernel"}])
def test_a_bundle_with_other_arguments_is_refused(change: dict[str, Any], tmp_path: Path) -> None:
    folder = transformers_folder(tmp_path / "folder")
    save_bundle(convert(ConvertConfig(transformers=folder, image_size=28, output="")), str(tmp_path / "out"))
    path = tmp_path / "out" / "bundle.json"
    content = json.loads(path.read_text())
    content["transformers"]["arguments"] |= change
    path.write_text(json.dumps(content))
    with pytest.raises(BundleError, match="is no argument"):
        load_bundle(str(tmp_path / "out"))


def test_a_bundle_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = transformers_folder(tmp_path / "folder")
    save_bundle(convert(ConvertConfig(transformers=folder, image_size=28, output="")), str(tmp_path / "out"))
    monkeypatch.setitem(sys.modules, "transformers", None)
    assert read_header(str(tmp_path / "out")).network.image_size == 28
    with pytest.raises(BundleError, match=r"pip install 'ddpm_seg\[transformers\]'"):
        load_bundle(str(tmp_path / "out"))
