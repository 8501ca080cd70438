"""Checkpoints in the published layouts become bundles; damaged, hostile and contradictory ones are refused by name."""

from __future__ import annotations

import io
import json
import logging
import os
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from ddpm_seg.model.bundle.ensemble_bundle import load_bundle, save_bundle
from ddpm_seg.model.features import FeatureConfig
from ddpm_seg.model.published.convert import ConvertConfig, convert, load_members, load_noise
from ddpm_seg.model.published.flags import configs_from_flags, split_model_flags
from ddpm_seg.model.published.guided_diffusion import load_unet
from ddpm_seg.model.published.noise import torch_cpu_noise, torch_cuda_noise
from ddpm_seg.model.published.state_dicts import read_checkpoint
from ddpm_seg.tasks import TASKS
from tests.model.published.published_files import (
    BLOCKS,
    FLAGS,
    STEPS,
    experiment_values,
    feature_channels,
    modelscope_configuration,
    random_state,
    unet_state,
    write_members,
    write_modelscope,
    write_published,
)

UNET = configs_from_flags(split_model_flags(FLAGS))[0]


def convert_published(folder: Path, *, model_flags: str = FLAGS, noise: str | None = None, **changes: Any) -> Any:
    paths = write_published(folder, **changes)
    return convert(ConvertConfig(**paths, output="unused", model_flags=model_flags, noise=noise))


# --- what comes out ---


def test_published_files_become_a_bundle(tmp_path: Path) -> None:
    bundle = convert_published(tmp_path)
    save_bundle(bundle, str(tmp_path / "bundle"))
    loaded = load_bundle(str(tmp_path / "bundle"))
    assert loaded.ddpm.unet == UNET
    assert loaded.ddpm.diffusion.steps == 1000
    assert loaded.features == FeatureConfig(steps=tuple(STEPS), blocks=tuple(BLOCKS))
    assert loaded.task == TASKS["cat_15"]
    assert torch.equal(loaded.noise, torch_cuda_noise(0, (1, 3, 16, 16)))
    for key, value in unet_state().items():
        assert torch.equal(loaded.weights[key], value), key
    assert len(loaded.members) == 3
    for index, member in enumerate(loaded.members):
        saved = torch.load(tmp_path / "pixel_classifiers" / f"model_{index}.pth")["model_state_dict"]
        assert {f"module.{key}" for key in member} == set(saved)
        assert all(torch.equal(member[key], saved[f"module.{key}"]) for key in member)


def test_provenance_has_names_and_no_paths(tmp_path: Path) -> None:
    provenance = convert_published(tmp_path).provenance
    assert provenance["converted"]["ddpm"] == "cat.pt"
    assert provenance["converted"]["noise"] == {"generator": "cuda", "seed": 0}
    assert provenance["converted"]["classifiers"] == ["model_0.pth", "model_1.pth", "model_2.pth"]
    assert str(tmp_path) not in json.dumps(provenance)


def test_a_checkpoint_alone_becomes_a_ddpm(tmp_path: Path) -> None:
    ddpm = write_published(tmp_path)["ddpm"]
    bundle = convert(ConvertConfig(ddpm=ddpm, output="unused", model_flags=FLAGS, noise_generator="cpu", noise_seed=4))
    assert (bundle.members, bundle.task, bundle.features) == ((), None, None)
    assert torch.equal(bundle.noise, torch_cpu_noise(4, (1, 3, 16, 16)))


def test_a_state_dict_within_the_state_of_a_training(tmp_path: Path) -> None:
    uri, state = str(tmp_path / "training.pt"), unet_state()
    for key in ("model", "state_dict"):
        torch.save({key: state, "step": 7}, uri)
        assert all(torch.equal(load_unet(uri, UNET)[name], value) for name, value in state.items())
    torch.save({"model": state, "model_ema": state}, uri)
    with pytest.raises(ValueError, match=r"training\.pt holds the network twice, once as 'model_ema'"):
        load_unet(uri, UNET)


def test_a_modelscope_folder(tmp_path: Path) -> None:
    write_modelscope(tmp_path / "model")
    bundle = convert(ConvertConfig(modelscope=str(tmp_path / "model"), output="unused"))
    published = convert_published(tmp_path)
    assert (bundle.network, bundle.features) == (published.network, published.features)
    assert bundle.task == TASKS["cat_15"]
    assert torch.equal(bundle.noise, torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(0)))
    assert len(bundle.members) == 3
    assert all(torch.equal(bundle.members[2][key], value) for key, value in published.members[2].items())


def test_image_size_is_the_experiments_where_no_flag_gives_it(tmp_path: Path) -> None:
    """As the published train_interpreter.py takes it from dim."""
    assert convert_published(tmp_path, model_flags=FLAGS.replace("--image_size 16", "")).network.image_size == 16


def test_an_unknown_category_gets_generic_names(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    task = convert_published(tmp_path, category="birds_7", number_class=7, ignore_label=0).task
    assert (task.name, task.num_classes, task.ignore_label) == ("birds_7", 7, 0)
    assert task.class_names[:2] == ("class_0", "class_1")
    assert len(set(task.palette)) == 7
    assert "birds_7" in caplog.text


@pytest.mark.parametrize("share_noise", [False, "absent"])
def test_unshared_noise_is_warned_about(tmp_path: Path, caplog: pytest.LogCaptureFixture, share_noise: Any) -> None:
    convert_published(tmp_path, share_noise=share_noise)
    assert "share_noise is false" in caplog.text


def test_order_and_repetition_of_blocks_mean_nothing(tmp_path: Path) -> None:
    assert convert_published(tmp_path, blocks=[2, 1, 2]).features.blocks == (1, 2)


# --- files that torch wrote, and files that it did not ---


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod.", "_fsdp_wrapped_module."])
def test_both_formats_with_and_without_prefix(tmp_path: Path, zipped: bool, prefix: str) -> None:
    state = unet_state()
    path = tmp_path / "x.pt"
    prefixed = OrderedDict((prefix + key, value) for key, value in state.items())
    torch.save(prefixed, path, _use_new_zipfile_serialization=zipped)
    loaded = load_unet(str(path), UNET)
    assert all(torch.equal(loaded[key], state[key]) for key in state)
    write_members(tmp_path / "members", prefix=prefix)
    assert "layers.0.weight" in load_members(str(tmp_path / "members"), 1, dim=feature_channels(), num_classes=15)[0]


@pytest.mark.parametrize(
    ("dtype", "expected"), [("float16", "float16"), ("bfloat16", "float32"), ("float64", "float32")]
)
def test_types_of_weights(tmp_path: Path, dtype: str, expected: str) -> None:
    torch.save({key: value.to(getattr(torch, dtype)) for key, value in unet_state().items()}, tmp_path / "x.pt")
    assert {str(value.dtype) for value in load_unet(str(tmp_path / "x.pt"), UNET).values()} == {f"torch.{expected}"}


def test_a_safetensors_file(tmp_path: Path) -> None:
    safetensors.torch.save_file(unet_state(), tmp_path / "x.safetensors")
    loaded = load_unet(str(tmp_path / "x.safetensors"), UNET)
    assert all(torch.equal(loaded[key], value) for key, value in unet_state().items())
    (tmp_path / "y.pt").write_bytes((tmp_path / "x.safetensors").read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"y\.pt: not a safetensors file, or a damaged one"):
        load_unet(str(tmp_path / "y.pt"), UNET)


def test_names_that_a_prefix_would_make_equal_stay(tmp_path: Path) -> None:
    state = unet_state()
    torch.save({**state, "_orig_mod.out.2.bias": torch.zeros(6)}, tmp_path / "x.pt")
    with pytest.raises(ValueError, match=r"it has _orig_mod\.out\.2\.bias"):
        load_unet(str(tmp_path / "x.pt"), UNET)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_tensor_without_values_is_refused(tmp_path: Path, zipped: bool) -> None:
    state = {**unet_state(), "out.2.bias": torch.empty(6, device="meta")}
    torch.save(state, tmp_path / "x.pt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match=r"x\.pt: \d+ bytes that unpack to more than \d+; it is damaged"):
        load_unet(str(tmp_path / "x.pt"), UNET)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.pt")
    with pytest.raises(OSError, match=r"x\.pt"):
        read_checkpoint(str(tmp_path / "x.pt"))


def test_a_file_of_holes_is_not_read_into_memory(tmp_path: Path) -> None:
    with (tmp_path / "x.pt").open("wb") as file:
        file.write(b"\x80\x02")
        file.truncate(2**43)
    with pytest.raises(ValueError, match=r"x\.pt: it does not fit into the memory"):
        read_checkpoint(str(tmp_path / "x.pt"))


class Hostile:
    """Unpickled, it would make a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (os.mkdir, (str(self.path),))


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_of_anything_else_is_refused_and_not_run(tmp_path: Path, zipped: bool) -> None:
    path = tmp_path / "x.pt"
    torch.save({**unet_state(), "extra": Hostile(tmp_path / "pwned")}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match=r"x\.pt: refused: it needs \S+mkdir, .*state_dict"):
        load_unet(str(path), UNET)
    assert not (tmp_path / "pwned").exists()


def test_a_bare_pickle_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.pt").write_bytes(pickle.dumps(Hostile(tmp_path / "pwned")))
    with pytest.raises(ValueError, match=r"x\.pt"):
        read_checkpoint(str(tmp_path / "x.pt"))
    assert not (tmp_path / "pwned").exists()


def test_damaged_and_foreign_files_are_refused_by_name(tmp_path: Path) -> None:
    """Cut at any place, overwritten at any place, or never a checkpoint: one line that names it."""
    rng = np.random.default_rng(0)
    small = {"weight": torch.arange(6.0)}
    contents = [
        b"",
        b"PK\x03\x04",
        b"\x80\x02}",
        b"<html>not found</html>",
        rng.bytes(1000),
        b"\x80\x04" + rng.bytes(200),
    ]
    for zipped in (True, False):
        buffer = io.BytesIO()
        torch.save(small, buffer, _use_new_zipfile_serialization=zipped)
        data = buffer.getvalue()
        contents += [data[: len(data) * part // 12] for part in range(1, 12)]
        for place in rng.integers(0, len(data) - 8, 40):
            contents.append(data[:place] + rng.bytes(8) + data[place + 8 :])
    path, refusals = tmp_path / "x.pt", []
    for content in contents:
        path.write_bytes(content)
        try:
            read_checkpoint(str(path))
        except ValueError as error:
            refusals.append(str(error))
    assert len(refusals) >= 28  # all that were cut, at least
    for refusal in refusals:
        assert refusal.startswith(f"{path}: ")
        assert "\n" not in refusal
        assert "False" not in refusal  # torch's own text advises to read it without protection


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere\.pt"):
        load_unet(str(tmp_path / "nowhere.pt"), UNET)


# --- the network ---


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("num_channels 32", "num_channels 64"), r"--num_channels 64, .* has num_channels 32"),
        (("learn_sigma True", "learn_sigma False"), r"--learn_sigma False, .* has learn_sigma True"),
        (("num_res_blocks 1", "num_res_blocks 2"), r"--num_res_blocks 2, .* has num_res_blocks 1"),
        (("channel_mult 1,2", "channel_mult 1,1"), r"--channel_mult 1,1, .* has channel_mult 1,2"),
        (("resolutions 8", "resolutions 16"), r"--attention_resolutions 16, .* has attention_resolutions 8"),
        (
            ("learn_sigma", "resblock_updown True --learn_sigma"),
            r"--resblock_updown True, .* has resblock_updown False",
        ),
        (("learn_sigma", "use_scale_shift_norm False --learn_sigma"), r"--use_scale_shift_norm False"),
        (("learn_sigma", "num_head_channels 48 --learn_sigma"), "num_head_channels"),
    ],
)
def test_a_flag_that_the_checkpoint_contradicts_is_named(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        convert(
            ConvertConfig(ddpm=write_published(tmp_path)["ddpm"], output="unused", model_flags=FLAGS.replace(*change))
        )


def test_the_default_flags_are_contradicted_too(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--num_channels 256, but the checkpoint has num_channels 32") as caught:
        convert(ConvertConfig(ddpm=write_published(tmp_path)["ddpm"], output="unused"))
    assert "--resblock_updown True" in str(caught.value)
    assert "--learn_sigma" not in str(caught.value)  # that one is right


def without(key: str) -> dict[str, Any]:
    return {name: value for name, value in unet_state().items() if name != key}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda: {"network": unet_state()}, "plain state dict.*a dictionary with network"),
        (lambda: [torch.zeros(1)], "plain state dict.*a list"),
        (dict, "plain state dict.*nothing"),
        (lambda: {"encoder.weight": torch.zeros(2)}, "not a guided-diffusion network.*encoder.weight"),
        (lambda: without("middle_block.1.qkv.bias"), "it lacks middle_block.1.qkv.bias"),
        (lambda: {**unet_state(), "ema": torch.zeros(1)}, "it has ema"),
        (lambda: {**unet_state(), "out.0.bias": torch.zeros(7)}, r"out.0.bias is \(7,\), expected \(32,\)"),
        (lambda: {**unet_state(), "input_blocks.0.0.weight": torch.zeros(32, 6, 3, 3)}, "super-resolution"),
        (lambda: {**unet_state(), "label_emb.weight": torch.zeros(1000, 128)}, "class_cond True"),
        (lambda: {**unet_state(), "out.0.bias": torch.full((32,), torch.nan)}, "out.0.bias.*not finite"),
        (lambda: {**unet_state(), "out.0.bias": torch.zeros(32, dtype=torch.int8)}, "out.0.bias is torch.int8"),
    ],
)
def test_what_is_not_this_network_is_refused(tmp_path: Path, content: Any, message: str) -> None:
    torch.save(content(), tmp_path / "x.pt")
    with pytest.raises(ValueError, match=message) as caught:
        load_unet(str(tmp_path / "x.pt"), UNET)
    assert str(tmp_path / "x.pt") in str(caught.value)


# --- the classifiers ---


def test_a_missing_member_is_named(tmp_path: Path) -> None:
    write_members(tmp_path, count=2)
    with pytest.raises(FileNotFoundError, match=r"model_2\.pth"):
        load_members(str(tmp_path), 3, dim=feature_channels(), num_classes=15)


def test_members_beyond_model_num_are_left_out_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_members(tmp_path, count=3)
    with caplog.at_level(logging.INFO):
        assert len(load_members(str(tmp_path), 2, dim=feature_channels(), num_classes=15)) == 2
    assert "the first 2 are used" in caplog.text


def test_a_counter_that_old_pytorch_did_not_write_is_zero(tmp_path: Path) -> None:
    write_members(tmp_path, count=1)
    content = torch.load(tmp_path / "model_0.pth")
    del content["model_state_dict"]["module.layers.2.num_batches_tracked"]
    torch.save(content, tmp_path / "model_0.pth")
    member = load_members(str(tmp_path), 1, dim=feature_channels(), num_classes=15)[0]
    assert member["layers.2.num_batches_tracked"] == 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda: unet_state(), "model_state_dict"),
        (lambda: {"model_state_dict": {"layers.0.weight": 3}}, "plain state dict"),
        (
            lambda: {"model_state_dict": random_state({"layers.0.weight": (128, 7)}, 0)},
            r"layers.0.weight is \(128, 7\)",
        ),
        (lambda: {"model_state_dict": {}}, "plain state dict"),
    ],
)
def test_a_wrong_member_is_named(tmp_path: Path, content: Any, message: str) -> None:
    write_members(tmp_path, count=2)
    torch.save(content(), tmp_path / "model_1.pth")
    with pytest.raises(ValueError, match=message) as caught:
        load_members(str(tmp_path), 2, dim=feature_channels(), num_classes=15)
    assert "model_1.pth" in str(caught.value)


@pytest.mark.parametrize(("num_classes", "dim"), [(21, None), (34, None), (15, 100)])
def test_members_of_other_classes_or_features(tmp_path: Path, num_classes: int, dim: int | None) -> None:
    write_members(tmp_path, count=1)
    with pytest.raises(ValueError, match=f"model_0.pth: not a pixel classifier of .* {num_classes} classes"):
        load_members(str(tmp_path), 1, dim=dim or feature_channels(), num_classes=num_classes)


# --- the experiment ---


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dim": [16, 16, 7]}, "7 feature channels.*have 192"),
        ({"dim": [32, 32, 192]}, "32x32.*image_size is 16"),
        ({"dim": [16, 8, 192]}, "16x8"),
        ({"dim": [16, 192]}, "dim"),
        ({"steps": [50]}, "192 feature channels.*have 96"),
        ({"steps": [50, 1000]}, "1000"),
        ({"steps": []}, "steps"),
        ({"steps": [50, True]}, "steps"),
        ({"steps": "absent"}, "steps is None"),
        ({"blocks": [1, 4]}, "blocks"),
        ({"category": "horse_21"}, "number_class 15.*'horse_21' has 21"),
        ({"category": "absent"}, "category is missing"),
        ({"category": "other", "ignore_label": 20}, "ignore_label 20"),
        ({"ignore_label": "absent"}, "ignore_label"),
        ({"number_class": "15"}, "number_class is '15'"),
        ({"model_num": 0}, "model_num 0"),
        ({"upsample_mode": "bicubic"}, "upsample_mode 'bicubic'"),
        ({"model_type": "swav", "input_activations": True}, "model_type 'swav'.*--swav, but --ddpm is given"),
        ({"model_type": "vit"}, "model_type 'vit'; expected one of ddpm, mae, swav, swav_w2"),
        ({"input_activations": True}, "input_activations"),
    ],
)
def test_a_wrong_field_is_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    paths = write_published(tmp_path)
    Path(paths["experiment"]).write_text(json.dumps(experiment_values(**changes)))
    with pytest.raises(ValueError, match=message):
        convert(ConvertConfig(**paths, output="unused", model_flags=FLAGS))


@pytest.mark.parametrize("content", [b"{", b"[1]", b"\xff\xfe"])
def test_an_experiment_that_is_no_json_object(tmp_path: Path, content: bytes) -> None:
    paths = write_published(tmp_path)
    Path(paths["experiment"]).write_bytes(content)
    with pytest.raises(ValueError, match=r"ddpm\.json"):
        convert(ConvertConfig(**paths, output="unused", model_flags=FLAGS))


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("model",), None, "model is missing"),
        (("model", "mlp"), [], "mlp"),
        (("model", "mlp", "cat_15"), {}, "cat_15.number_class"),
        (("model", "mlp", "dim"), [16, 16], "dim"),
        (("model", "ddpm", "num_channels"), 64, "--num_channels 64"),
        (("model", "ddpm", "class_cond"), True, "class_cond"),
        (("model", "ddpm", "input_activations"), True, "input_activations"),
        (("pipeline", "category"), "horse_21", "horse_21"),
        (("pipeline", "category"), "../cat_15", "expected the name of a folder"),
        (("pipeline", "category"), "/etc", "expected the name of a folder"),
        (("model", "mlp", "model_num"), 10**12, "expected 1 to 1024"),
    ],
)
def test_a_wrong_modelscope_configuration(tmp_path: Path, path: tuple[str, ...], value: Any, message: str) -> None:
    write_modelscope(tmp_path)
    configuration = modelscope_configuration()
    section = configuration
    for key in path[:-1]:
        section = section[key]
    section[path[-1]] = value
    (tmp_path / "configuration.json").write_text(json.dumps(configuration))
    with pytest.raises(ValueError, match=message):
        convert(ConvertConfig(modelscope=str(tmp_path), output="unused"))


# --- the noise ---


@pytest.mark.parametrize("shape", [(1, 3, 16, 16), (3, 16, 16)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_noise_file(tmp_path: Path, shape: tuple[int, ...], dtype: str) -> None:
    noise = np.random.default_rng(0).standard_normal(shape).astype(dtype)
    np.save(tmp_path / "noise.npy", noise)
    bundle = convert_published(tmp_path, noise=str(tmp_path / "noise.npy"))
    np.testing.assert_array_equal(bundle.noise.numpy(), noise.reshape(1, 3, 16, 16).astype(np.float32))
    assert bundle.provenance["converted"]["noise"] == {"file": "noise.npy"}


@pytest.mark.parametrize(
    ("noise", "message"),
    [
        (np.zeros((1, 3, 8, 8), np.float32), r"\(1, 3, 8, 8\); expected float32 \(1, 3, 16, 16\)"),
        (np.zeros((1, 16, 16, 3), np.float32), r"\(1, 16, 16, 3\)"),
        (np.zeros((1, 3, 16, 16), np.uint8), "uint8"),
        (np.full((1, 3, 16, 16), np.nan, np.float32), "not finite"),
        (np.array([{}], dtype=object), "not a .npy file of numbers"),
    ],
)
def test_a_wrong_noise_file(tmp_path: Path, noise: np.ndarray, message: str) -> None:
    np.save(tmp_path / "noise.npy", noise, allow_pickle=True)
    with pytest.raises(ValueError, match=message):
        load_noise(str(tmp_path / "noise.npy"), (1, 3, 16, 16))


@pytest.mark.parametrize("content", [b"", b"text", b"\x93NUMPY\x01\x00", b"PK\x03\x04"])
def test_no_noise_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "noise.npy").write_bytes(content)
    with pytest.raises(ValueError, match=r"noise\.npy: not a \.npy file"):
        load_noise(str(tmp_path / "noise.npy"), (1, 3, 16, 16))


def test_noise_that_is_not_normal_is_warned_about(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    np.save(tmp_path / "noise.npy", np.random.default_rng(0).random((1, 3, 16, 16)))
    load_noise(str(tmp_path / "noise.npy"), (1, 3, 16, 16))
    assert "not those of standard normal noise" in caplog.text
