"""A bundle that is replaced: before it is loaded, while it is read, and while it is at work."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from ddpm_seg import storage
from ddpm_seg.model.bundle.ensemble_bundle import ENSEMBLE, NOISE, Bundle, load_bundle, save_bundle
from ddpm_seg.model.bundle.files import check_model_id
from ddpm_seg.model.bundle.student_bundle import StudentBundle, load_student, save_student
from ddpm_seg.model.errors import BundleError, ModelChangedError
from ddpm_seg.model.networks.student import Student, StudentConfig
from ddpm_seg.model.trained import load_model, read_trained_header, resident
from tests.model.published.tiny_diffusers import TINY_DIFFUSERS
from tests.model.tiny_networks import TINY_ALAE, TINY_MAE, TINY_SWAV, TINY_VDVAE, backbone_bundle, images
from tests.tiny_bundle import TASK, tiny_bundle

KINDS = ["ddpm", "diffusers", "mae", "swav", "vdvae", "alae", "student"]


def make(kind: str) -> Bundle | StudentBundle:
    if kind == "student":
        config = StudentConfig(
            backbone="mobilenet_v3_large", num_classes=TASK.num_classes, image_size=16, resolution=32
        )
        torch.manual_seed(0)
        return StudentBundle(student=config, weights=Student(config).state_dict(), task=TASK)
    networks = {
        "diffusers": TINY_DIFFUSERS,
        **{network.kind: network for network in (TINY_MAE, TINY_SWAV, TINY_VDVAE, TINY_ALAE)},
    }
    return backbone_bundle(networks[kind]) if kind in networks else tiny_bundle()


def other(bundle: Bundle | StudentBundle) -> Bundle | StudentBundle:
    """The same network with one weight that differs."""
    weights = {key: value.clone() for key, value in bundle.weights.items()}
    max(weights.values(), key=torch.Tensor.numel).flatten()[0] += 1
    return dataclasses.replace(bundle, weights=weights)


def weights_file(folder: Path) -> Path:
    """Of a bundle's network."""
    (file,) = set(folder.glob("*.safetensors")) - {folder / ENSEMBLE, folder / NOISE}
    return file


def save(bundle: Bundle | StudentBundle, folder: Path) -> str:
    header = save_bundle(bundle, str(folder)) if isinstance(bundle, Bundle) else save_student(bundle, str(folder))
    return header.model_id


@pytest.fixture(scope="module", params=KINDS)
def two(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path, dict[str, str]]:
    """The kind, a folder with the bundles `old` and `new` of it, and the model_id of each."""
    folder, bundle = tmp_path_factory.mktemp(request.param), make(request.param)
    return request.param, folder, {"old": save(bundle, folder / "old"), "new": save(other(bundle), folder / "new")}


def test_another_model_is_refused_with_both_ids(two: tuple[str, Path, dict[str, str]]) -> None:
    kind, folder, ids = two
    for load in (load_model, load_student if kind == "student" else load_bundle):
        assert type(load(str(folder / "old"), ids["old"])) is type(load(str(folder / "old")))
        with pytest.raises(ModelChangedError) as caught:
            load(str(folder / "new"), ids["old"])
        message = str(caught.value)
        assert f"{folder}/new holds model {ids['new']}; expected model {ids['old']}" in message
        assert f"put {ids['old']} back" in message
        assert "\n" not in message


@pytest.mark.parametrize("expects", [True, False])
def test_a_bundle_that_is_replaced_while_it_is_read_is_never_mixed(
    expects: bool, two: tuple[str, Path, dict[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, folder, ids = two
    place = shutil.copytree(folder / "old", tmp_path / "place")
    after_reading(monkeypatch, "bundle.json", lambda: shutil.copytree(folder / "new", place, dirs_exist_ok=True))
    with pytest.raises(ModelChangedError, match=f"holds model {ids['new']}; expected model {ids['old']}"):
        load_model(str(place), ids["old"] if expects else None)
    # What stands there now is whole.
    loaded = load_model(str(place), ids["new"]).weights
    new = load_model(str(folder / "new")).weights
    assert all(torch.equal(loaded[key], value) for key, value in new.items())
    # Half-way, with the weights of one and the description of the other, it is neither.
    shutil.copy(weights_file(folder / "old"), place)
    with pytest.raises(BundleError, match=r"safetensors is damaged, or is being replaced"):
        load_model(str(place))


def test_a_bundle_that_is_deleted_while_it_is_read_is_an_error_of_the_bundle(
    two: tuple[str, Path, dict[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, folder, _ = two
    place = shutil.copytree(folder / "old", tmp_path / "place")
    weights = weights_file(place)
    real = storage.read_bytes
    monkeypatch.setattr(
        storage,
        "read_bytes",
        lambda uri, **options: (weights.unlink() if uri == str(weights) else 0, real(uri, **options))[1],
    )
    with pytest.raises(BundleError, match=rf"{place} is incomplete: .*{weights.name}"):
        load_model(str(place))


def test_the_description_is_read_once(two: tuple[str, Path, dict[str, str]], monkeypatch: pytest.MonkeyPatch) -> None:
    _, folder, ids = two
    reads: list[str] = []
    after_reading(monkeypatch, "bundle.json", lambda: reads.append("read"), times=9)
    read_trained_header(str(folder / "old"))
    assert len(reads) == 1
    load_model(str(folder / "old"), ids["old"])
    assert len(reads) == 2


def test_a_model_at_work_does_not_follow_its_file(two: tuple[str, Path, dict[str, str]], tmp_path: Path) -> None:
    _, folder, _ = two
    place = shutil.copytree(folder / "old", tmp_path / "place")
    segmenter = resident(load_model(str(place)), device="cpu")
    pictures = images(2, segmenter.image_size)
    before = segmenter.segment(pictures)
    with weights_file(place).open("r+b") as file:  # in place, as cp and rsync --inplace do
        size = file.seek(0, 2)
        file.seek(size // 4)
        file.write(bytes(size - size // 4))
    for found, expected in zip(segmenter.segment(pictures), before, strict=True):
        np.testing.assert_array_equal(found.label, expected.label)
        np.testing.assert_array_equal(found.uncertainty, expected.uncertainty)


@pytest.mark.parametrize("wrong", ["", "d27ce97be824", "D27CE97BE82479B9", "d27ce97be82479b9 ", "avatars-10"])
def test_what_is_no_model_id_is_refused(wrong: str) -> None:
    check_model_id(None)
    check_model_id("d27ce97be82479b9")
    with pytest.raises(ValueError, match=f"--expect-model-id must be a model_id, 16 hex digits .* got '{wrong}'"):
        check_model_id(wrong)


def after_reading(patch: pytest.MonkeyPatch, name: str, act: Callable[[], object], *, times: int = 1) -> None:
    """Calls `act` after the first so many reads of a file of that name."""
    real, left = storage.read_bytes, [times]

    def read_bytes(uri: str, **options: int) -> bytes:
        data = real(uri, **options)
        if uri.endswith(name) and left[0]:
            left[0] -= 1
            act()
        return data

    patch.setattr(storage, "read_bytes", read_bytes)
