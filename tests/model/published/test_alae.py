"""Checkpoints of podgorskiy/ALAE: their encoder alone is read, and nothing of the file's is run."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ddpm_seg.model.networks.alae import ALAEConfig
from ddpm_seg.model.published.alae import load_alae
from ddpm_seg.model.published.state_dicts import Inert, read_checkpoint
from tests.model.recorded_vdvae_alae import alae_tracker, save, save_alae, state, without_values

pytestmark = pytest.mark.usefixtures("small_checkpoints")

State = dict[str, Tensor]
ENCODER = state("alae128")


@pytest.mark.parametrize(
    ("name", "widths", "channels", "sides"),
    [
        ("alae_ffhq1024", (16, 32, 64, 128, 256, 512, 512, 512, 512, 512), 3008, [256, 128, 64, 32, 16, 8, 4, 2]),
        ("alae_bedroom256", (32, 64, 128, 256, 512, 512, 512, 512), 2496, [128, 64, 32, 16, 8, 4, 2]),
        ("alae_celeba_hq256", (64, 128, 256, 512, 512, 512, 512, 512), 2944, [128, 64, 32, 16, 8, 4, 2]),
    ],
)
def test_the_published_networks_are_read_off_their_checkpoints(
    tmp_path: Path, name: str, widths: tuple[int, ...], channels: int, sides: list[int]
) -> None:
    network, _ = load_alae(save_alae(tmp_path / "model_157.pth", without_values(name)))
    assert network == ALAEConfig(image_size=256, widths=widths)
    features = network.published_features()
    assert features.blocks == tuple(range(len(sides)))
    assert (sum(features.channels(network)), features.sides(network)) == (channels, sides)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_published_checkpoint_holds_objects_of_classes_that_are_never_imported(tmp_path: Path, legacy: bool) -> None:
    path = save_alae(tmp_path / "model_final.pth", ENCODER, legacy=legacy)
    tracks = read_checkpoint(path)["auxiliary"]["tracker"]["tracks"]
    assert [type(track) for track in tracks.values()] == [Inert, Inert]
    network, weights = load_alae(path)
    assert network == ALAEConfig(image_size=128, widths=(8, 16, 32, 32, 32, 32, 32))
    assert torch.equal(weights["encode_block.2.conv_1.weight"], ENCODER["encode_block.2.conv_1.weight"])
    assert torch.equal(weights["encode_block.2.conv_2.bias"], ENCODER["encode_block.2.bias_2"].flatten())


def test_the_encoder_alone_is_the_same(tmp_path: Path) -> None:
    whole = load_alae(save_alae(tmp_path / "whole.pth", ENCODER))
    alone = load_alae(save(tmp_path / "alone.pth", {f"module.{key}": value for key, value in ENCODER.items()}))
    assert alone[0] == whole[0]
    assert alone[1].keys() == whole[1].keys()
    assert all(torch.equal(alone[1][key], value) for key, value in whole[1].items())


def test_the_side_of_the_images_may_be_chosen(tmp_path: Path) -> None:
    path = save_alae(tmp_path / "alae.pth", ENCODER)
    assert load_alae(path, 32)[0].image_size == 32
    with pytest.raises(ValueError, match="image_size must be at most 128, got 256"):
        load_alae(path, 256)
    with pytest.raises(ValueError, match="image_size must be a power of 2, got 48"):
        load_alae(path, 48)


def test_another_network_of_the_project_is_named(tmp_path: Path) -> None:
    path = save(tmp_path / "model.pth", {"models": {"generator_s": {"const": torch.zeros(3)}}})
    with pytest.raises(ValueError, match=r"model\.pth: expected the encoder discriminator_s .* with generator_s"):
        load_alae(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda whole: whole.pop("encode_block.3.bias_1"),
            r"not the encoder of an ALAE: it lacks encode_block\.3\.bias_1",
        ),
        (lambda whole: whole.pop("encode_block.3.conv_2.weight"), r"encode_block\.3\.conv_2\.weight is missing"),
        (lambda whole: whole.pop("from_rgb.0.from_rgb.weight"), r"not an ALAE checkpoint: it has no from_rgb\.0"),
        (lambda whole: whole.pop("from_rgb.0.from_rgb.bias"), r"it lacks from_rgb\.0\.from_rgb\.bias"),
        (lambda whole: whole.update(extra=torch.zeros(3)), "it has extra, which the network lacks"),
        (lambda whole: whole.update({"encode_block.5.dense.weight": torch.zeros(3, 3)}), r"5\.dense\.weight: the last"),
        (
            lambda whole: whole["encode_block.1.bias_2"].fill_(torch.nan),
            "bias_2 has values that are not finite numbers",
        ),
        (
            lambda whole: whole.update({"encode_block.0.bias_1": torch.zeros(8)}),
            r"bias_1 is \(8,\), expected \(1, 8, 1, 1",
        ),
        (
            lambda whole: whole.update({"encode_block.0.conv_2.weight": torch.zeros(16, 8, 4, 4)}),
            r"expected .*8, 3, 3\)",
        ),
        (
            lambda whole: whole.update({"encode_block.0.conv_2.weight": torch.zeros(()).expand(10**9, 8, 3, 3)}),
            "width must be at most 16384, got 1000000000",
        ),
        (
            lambda whole: whole.update({"encode_block.99.conv_2.weight": torch.zeros(1, 1, 3, 3)}),
            "6.conv_2.weight is miss",
        ),
        (lambda whole: whole.clear(), "expected a plain state dict"),
    ],
)
def test_what_is_no_encoder_is_said_so(tmp_path: Path, change: Callable[[State], object], message: str) -> None:
    whole = {key: value.clone() for key, value in ENCODER.items()}
    change(whole)
    with pytest.raises(ValueError, match=message) as error:
        load_alae(save_alae(tmp_path / "model.pth", whole))
    assert "model.pth" in str(error.value)
    assert "\n" not in str(error.value)


class Pickled:
    """Becomes what calling `function` with `arguments` would give, where an unpickler does so."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


def storage_pickle() -> bytes:
    """A checkpoint inside a checkpoint, which torch once read without looking at it."""
    buffer = io.BytesIO()
    torch.save(Pickled(os.system, "touch nested"), buffer)
    return buffer.getvalue()


HOSTILE = {
    "eval": lambda: Pickled(eval, "open('run', 'w')"),
    "system": lambda: Pickled(os.system, "touch run"),
    "getattr": lambda: Pickled(getattr, [], "append"),
    "_load_from_bytes": lambda: Pickled(torch.storage._load_from_bytes, storage_pickle()),
    "_reconstruct": lambda: np.array([Pickled(os.system, "touch run")], dtype=object),
}


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("name", list(HOSTILE))
def test_a_pickle_of_anything_else_is_refused_by_name_and_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, legacy: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    with alae_tracker() as tracker:
        hidden = tracker.RunningMean()
        hidden.values = HOSTILE[name]()
        path = save(tmp_path / "x.pth", {"models": {"discriminator_s": ENCODER}, "tracks": hidden}, legacy=legacy)
    with pytest.raises(ValueError, match=rf"x\.pth: refused: it needs \S*{name},"):
        load_alae(path)
    assert [file.name for file in tmp_path.iterdir()] == ["x.pth"]


@pytest.mark.parametrize("legacy", [False, True])
def test_the_stand_ins_cannot_be_called(tmp_path: Path, legacy: bool) -> None:
    with alae_tracker() as tracker:
        content = {"models": {"discriminator_s": ENCODER}, "tracks": Pickled(tracker.RunningMean, "anything")}
        tracker.RunningMean.__init__ = lambda self, text: None
        path = save(tmp_path / "x.pth", content, legacy=legacy)
    with pytest.raises(ValueError, match=r"x\.pth: not a checkpoint"):
        load_alae(path)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_truncated_file_is_named(tmp_path: Path, legacy: bool) -> None:
    path = Path(save_alae(tmp_path / "x.pth", ENCODER, legacy=legacy))
    whole = path.read_bytes()
    for part in range(1, 8):
        path.write_bytes(whole[: len(whole) * part // 8])
        with pytest.raises(ValueError, match=r"x\.pth: "):
            load_alae(str(path))
