from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ddpm_seg.data.annotations.load import Annotation
from ddpm_seg.data.canvas import Placement
from ddpm_seg.errors import StageError
from ddpm_seg.model.bundle.ensemble_bundle import save_bundle
from ddpm_seg.model.device import fitting_batch
from ddpm_seg.model.diffusion import Diffusion
from ddpm_seg.model.features import FeatureConfig
from ddpm_seg.model.networks.diffusion.ddpm_extractor import extract
from ddpm_seg.model.networks.diffusion.unet import UNet
from ddpm_seg.model.networks.pixel_values import to_network
from ddpm_seg.model.resident import resident_extractor
from ddpm_seg.training.ensemble import feature_files
from ddpm_seg.training.ensemble.extraction import Workplace, extract_features
from ddpm_seg.training.ensemble.pixel_features import PixelFeatures
from tests.tiny_bundle import tiny_bundle

SIZE = 16
FEATURES = FeatureConfig(steps=(5, 30), blocks=(0, 2, 3))


def annotations(count: int, seed: int = 0) -> list[Annotation]:
    rng = np.random.default_rng(seed)
    whole = Placement(left=0, top=0, width=SIZE, height=SIZE, image_width=SIZE, image_height=SIZE)
    return [
        Annotation(
            uri=f"{index}.png",
            image=rng.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8),
            label=np.zeros((SIZE, SIZE), np.uint8),
            placement=whole,
        )
        for index in range(count)
    ]


def everything(features: PixelFeatures) -> torch.Tensor:
    return features.gather(torch.arange(features.num_images * SIZE * SIZE))


def make(folder: Path, images: list[Annotation], features: FeatureConfig = FEATURES, **more: Any) -> torch.Tensor:
    workplace = Workplace(folder=str(folder), model="", **more)
    return everything(extract_features(tiny_bundle(size=SIZE), images, features, "cpu", workplace))


def test_features_are_the_interpolated_activations_of_every_image() -> None:
    bundle, images = tiny_bundle(size=SIZE), annotations(3)
    x_0 = to_network(np.stack([image.image for image in images]), "cpu")
    with torch.inference_mode():
        maps = extract(
            resident_extractor(bundle, "cpu").unet, Diffusion(bundle.ddpm.diffusion), x_0, bundle.noise, FEATURES
        )
    expected = torch.cat([F.interpolate(one, (SIZE, SIZE), mode="bilinear") for one in maps], dim=1)
    found = everything(extract_features(bundle, images, FEATURES, "cpu"))
    torch.testing.assert_close(found, expected.permute(0, 2, 3, 1).reshape(len(found), -1), rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize(("budget", "passes"), [(1, 4), (2**29, 2)])
def test_an_images_steps_go_through_the_network_together_if_memory_allows(
    monkeypatch: pytest.MonkeyPatch, budget: int, passes: int
) -> None:
    images, together = annotations(2), []
    expected = everything(extract_features(tiny_bundle(size=SIZE), images, FEATURES, "cpu"))
    monkeypatch.setattr(fitting_batch, "CPU_ACTIVATION_BYTES", budget)
    activations = UNet.activations
    monkeypatch.setattr(
        UNet, "activations", lambda self, *what: (together.append(what[0]), activations(self, *what))[1]
    )
    found = everything(extract_features(tiny_bundle(size=SIZE), images, FEATURES, "cpu"))
    assert len(together) == passes
    torch.testing.assert_close(found, expected, rtol=2e-3, atol=2e-3)


def test_what_stands_at_the_workplace_is_not_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images, made = annotations(4), []
    write = feature_files.FeatureExtractor.write
    monkeypatch.setattr(
        feature_files.FeatureExtractor, "write", lambda self, *what: (made.append(what[1]), write(self, *what))
    )
    first = make(tmp_path, images[:2])
    everything_made = make(tmp_path, images)
    assert len(made) == len(set(made)) == 4
    assert torch.equal(first, everything_made[: len(first)])
    assert torch.equal(make(tmp_path, images), everything_made)
    assert len(made) == 4
    make(tmp_path, images, FeatureConfig(steps=(5, 31), blocks=(0, 2, 3)))
    make(tmp_path, annotations(1, seed=9))
    assert len(set(made)) == 9


def test_another_networks_features_are_other_files() -> None:
    image = [annotations(1)[0].image]
    uris = [feature_files.feature_uris(tiny_bundle(seed), image, FEATURES, "/where") for seed in (0, 0, 1)]
    assert uris[0] == uris[1] != uris[2]


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    images = annotations(2)
    make(tmp_path, images)
    damaged = sorted(tmp_path.iterdir())[0]
    damaged.write_bytes(damaged.read_bytes()[:100])
    with pytest.raises(StageError, match=rf"{damaged.name} is damaged .*delete it, and the next run makes it again"):
        make(tmp_path, images)


class Usage(NamedTuple):
    total: int
    used: int
    free: int


def test_without_room_nothing_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Usage(total=10, used=9, free=1))
    with pytest.raises(OSError, match=r"the features of 2 images take .* set TMPDIR"):
        make(tmp_path, annotations(2))
    assert not list(tmp_path.iterdir())


def test_actors_make_the_same_features(tmp_path: Path, ray_cluster: str) -> None:
    images, model = annotations(5), str(tmp_path / "model")
    save_bundle(tiny_bundle(size=SIZE), model)
    workplace = Workplace(folder=str(tmp_path / "made"), model=model, actors=2)
    found = everything(extract_features(tiny_bundle(size=SIZE), images, FEATURES, "cpu", workplace))
    assert len(list((tmp_path / "made").iterdir())) == 5
    torch.testing.assert_close(found, make(tmp_path / "here", images), rtol=2e-3, atol=2e-3)


def test_actors_refuse_another_model(tmp_path: Path, ray_cluster: str) -> None:
    model = str(tmp_path / "model")
    found = save_bundle(tiny_bundle(1, size=SIZE), model).model_id
    workplace = Workplace(folder=str(tmp_path / "made"), model=model, model_id="0123456789abcdef", actors=1)
    with pytest.raises(StageError, match=f"holds model {found}; expected model 0123456789abcdef") as error:
        extract_features(tiny_bundle(size=SIZE), annotations(2), FEATURES, "cpu", workplace)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "made").exists()


def test_more_actors_than_gpus_are_refused(tmp_path: Path, ray_cluster: str) -> None:
    with pytest.raises(ValueError, match="room for 2 actors of 1 GPU; 3 requested"):
        make(tmp_path, annotations(1), actors=3)
