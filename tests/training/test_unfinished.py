"""Saved states that are damaged, foreign or something else: one line names the file, and none of its code is run."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ddpm_seg.cluster.training_workers import Worker
from ddpm_seg.model.diffusion import DiffusionConfig
from ddpm_seg.model.networks.diffusion.unet import UNetConfig
from ddpm_seg.model.networks.student import StudentConfig
from ddpm_seg.model.published.state_dicts import read_checkpoint
from ddpm_seg.training.ensemble.ensemble_training import EnsembleConfig, EnsembleTraining
from ddpm_seg.training.ensemble.pixel_features import PixelFeatures
from ddpm_seg.training.network.denoising import Denoising
from ddpm_seg.training.network.network_training import NetworkTraining
from ddpm_seg.training.optimization import Optimization, StudentOptimization
from ddpm_seg.training.student.student_training import StudentTraining
from ddpm_seg.training.unfinished import OtherTrainingError
from tests.model.tiny_networks import images
from tests.tiny_bundle import TASK

Resume = Callable[[str], None]


def network() -> NetworkTraining:
    unet = UNetConfig(image_size=16, num_channels=32, num_res_blocks=1, channel_mult=(1, 1), attention_resolutions=())
    return NetworkTraining(Denoising(unet, DiffusionConfig(steps=50)), Optimization(batch_size=2), Worker())


def members() -> EnsembleTraining:
    features = PixelFeatures(num_images=1, image_size=8, mode="bilinear", dtype=torch.float32)
    features.store(0, [torch.rand(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))])
    config = EnsembleConfig(members=2, batch_size=16, iterations=20)
    return EnsembleTraining(features, torch.arange(64), torch.zeros(64, dtype=torch.int64), 3, config)


def student() -> StudentTraining:
    config = StudentConfig(backbone="mobilenet_v3_large", num_classes=3, image_size=16, resolution=32)
    return StudentTraining(config, StudentOptimization(batch_size=2), Worker(), task=TASK, settings={})


TRAININGS: dict[str, Callable[[], Any]] = {"network": network, "members": members, "student": student}


@pytest.mark.parametrize("kind", TRAININGS)
def test_a_state_that_cannot_be_taken_up_is_named(kind: str, tmp_path: Path) -> None:
    own, others = TRAININGS[kind](), [make() for name, make in TRAININGS.items() if name != kind]
    path = tmp_path / "unfinished_training.pt"
    own.save(str(path))
    whole = path.read_bytes()
    TRAININGS[kind]().resume(str(path))

    def saved(content: Any) -> bytes:
        file = io.BytesIO()
        torch.save(content, file)
        return file.getvalue()

    state = torch.load(path, weights_only=True)
    odd = [
        b"",
        b"<!DOCTYPE html><html>",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
        b"\x80\x02}q\x00.",
    ]
    odd += [whole[: len(whole) // 2], whole[:-7], whole[:500] + b"\xff" * 200 + whole[700:], pickle.dumps(Path("/x"))]
    odd += [saved([]), saved({}), saved(7), saved({**state, next(iter(state)): None})]
    needed = state.keys() - {"rule", "losses"}  # states of releases before had neither
    odd += [saved({key: value for key, value in state.items() if key != name}) for name in needed]
    for other in others:
        other.save(str(tmp_path / "other.pt"))
        odd.append((tmp_path / "other.pt").read_bytes())
    for data in odd:
        path.write_bytes(data)
        with pytest.raises(ValueError, match=r"unfinished_training\.pt") as raised:
            TRAININGS[kind]().resume(str(path))
        assert "\n" not in str(raised.value)
        assert "weights_only" not in str(raised.value)


def test_weights_that_are_not_finite_are_not_gone_on_with(tmp_path: Path) -> None:
    training, path = network(), str(tmp_path / "unfinished_training.pt")
    training.step(images(4, 16))
    with torch.no_grad():
        next(training.average.parameters()).fill_(torch.nan)
    training.save(path)
    with pytest.raises(ValueError, match=r"its weights are not finite\); delete it to start anew"):
        network().resume(path)


def test_members_saved_after_their_last_step_are_taken_up_as_they_are(tmp_path: Path) -> None:
    training, path = members(), str(tmp_path / "members.pt")
    while training.running:
        training.step()
    training.save(path)
    again = members()
    again.resume(path)
    assert not again.running
    for one, other in zip(training.members(), again.members(), strict=True):
        assert (one.iterations, one.loss) == (other.iterations, other.loss)
        assert all(torch.equal(one.weights[key], value) for key, value in other.weights.items())


def test_other_settings_are_told_from_damage(tmp_path: Path) -> None:
    path = str(tmp_path / "unfinished_training.pt")
    network().save(path)
    training = network()
    training.configs["options"]["learning_rate"] = 1.0
    with pytest.raises(OtherTrainingError, match=r"has options\.learning_rate = 0\.0005, not 1\.0"):
        training.resume(path)


@pytest.mark.parametrize("mapped", [True, False])
def test_what_unpacks_to_more_than_the_file_is_refused(tmp_path: Path, mapped: bool) -> None:
    """1.5 MB that become 3.2 GB: by the zip's own packing, or by few numbers shown many times."""
    path = tmp_path / "weights.pth"
    torch.save({"weight": torch.zeros(50_000_000)}, path)
    with zipfile.ZipFile(path) as loose, zipfile.ZipFile(tmp_path / "tight.pth", "w", zipfile.ZIP_DEFLATED) as tight:
        for entry in loose.infolist():
            tight.writestr(entry.filename, loose.read(entry))
    assert (tmp_path / "tight.pth").stat().st_size < 10**6
    torch.save({"weight": torch.zeros(1).expand(10**9)}, tmp_path / "shown.pth")
    torch.save(
        {f"weight{index}": view for index, view in enumerate([torch.zeros(10**6)] * 100)}, tmp_path / "often.pth"
    )
    for name in ("tight.pth", "shown.pth", "often.pth"):
        with pytest.raises(ValueError, match=rf"{name}: \d+ bytes that unpack to"):
            read_checkpoint(str(tmp_path / name), mapped=mapped)


def test_a_pickle_may_not_make_bytes_of_any_length(tmp_path: Path) -> None:
    bomb = b"\x80\x02cbuiltins\nbytearray\nJ\x00\x00\x00\x7f\x85R."
    (tmp_path / "bare.pth").write_bytes(bomb)
    with zipfile.ZipFile(tmp_path / "zip.pth", "w") as archive:
        archive.writestr("archive/data.pkl", bomb)
        archive.writestr("archive/version", "3\n")
    for name in ("bare.pth", "zip.pth"):
        with pytest.raises(ValueError, match=rf"{name}: .*(refused|not a checkpoint)"):
            read_checkpoint(str(tmp_path / name))
