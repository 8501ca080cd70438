"""NETWORKS: what names a network names no other, and each kind of file has a flag and a loader."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import subprocess
import sys

from ddpm_seg.model.networks.known import NETWORKS
from ddpm_seg.model.published.convert_config import ConvertConfig

CHECKPOINTS = [checkpoint for network in NETWORKS for checkpoint in network.checkpoints]


def test_a_name_is_of_one_network() -> None:
    for names in (
        [network.kind for network in NETWORKS],
        [section for network in NETWORKS for section in network.sections()],
        [checkpoint.flag for checkpoint in CHECKPOINTS],
    ):
        assert len(set(names)) == len(names)
    # Beside what else stands in bundle.json, and the other files of a bundle.
    taken = {"schema_version", "diffusion", "features", "task", "input_size", "num_members", "files", "provenance"}
    assert not taken & {section for network in NETWORKS for section in network.sections()}
    assert not {"ensemble", "noise", "student"} & {network.kind for network in NETWORKS}


def test_every_checkpoint_has_its_flags_and_a_loader() -> None:
    flags = {field.name for field in dataclasses.fields(ConvertConfig)}
    for checkpoint in CHECKPOINTS:
        assert {checkpoint.flag, *checkpoint.options} <= flags, checkpoint
        module = importlib.import_module(f"ddpm_seg.model.published.{checkpoint.loader}")
        assert list(inspect.signature(module.load).parameters) == ["config", "image_size"], checkpoint


def test_no_landmarks_are_another_networks() -> None:
    for one in CHECKPOINTS:
        for other in CHECKPOINTS:
            if one is not other and one.landmarks and one.loader != other.loader:
                assert not one.landmarks.items() <= other.landmarks.items(), (one.flag, other.flag)


def test_the_list_needs_no_optional_or_slow_package() -> None:
    code = (
        "import sys, ddpm_seg.model.networks.known\n"
        "slow = {'torchvision', 'diffusers', 'timm', 'transformers', 'scipy'} & set(sys.modules)\n"
        "assert not slow, slow"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
