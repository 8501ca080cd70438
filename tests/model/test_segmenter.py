"""Segmenting whole images, compared with the plain method of transcription.py from pixels to votes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from ddpm_seg.benchmark import transcription
from ddpm_seg.model.bundle.ensemble_bundle import Bundle
from ddpm_seg.model.errors import BundleError
from ddpm_seg.model.features import FeatureConfig
from ddpm_seg.model.network import Network
from ddpm_seg.model.networks.diffusion.unet import UNetConfig
from ddpm_seg.model.networks.pixel_values import to_network
from ddpm_seg.model.pixel_labels import PixelLabels
from ddpm_seg.model.resident import resident_extractor
from ddpm_seg.model.segmenter import Segmenter
from tests.model.published.tiny_diffusers import TINY_DIFFUSERS
from tests.model.tiny_networks import (
    TINY_ALAE,
    TINY_MAE,
    TINY_SWAV,
    TINY_VDVAE,
    assert_close,
    backbone_bundle,
    bundle,
    drawn_config,
    images,
)

CONFIG = UNetConfig(image_size=16, num_channels=32, num_res_blocks=1, channel_mult=(1, 2), attention_resolutions=(8,))
FEATURES = FeatureConfig(steps=(50, 150), blocks=(0, 2, 3))


@pytest.mark.parametrize("seed", range(6))
def test_equals_the_plain_method(seed: int) -> None:
    config = drawn_config(seed)
    features = FeatureConfig(
        steps=(250, 50)[: 1 + seed % 2],
        blocks=tuple(range(0, len(config.block_channels), 2)),
        upsample_mode="nearest" if seed % 3 == 2 else "bilinear",
    )
    model = bundle(config, features, classes=(5, 31)[seed % 2])
    pictures = images(2, config.image_size)
    segmenter = Segmenter(model, device="cpu")
    for picture, labels in zip(pictures, segmenter.segment(pictures), strict=True):
        label_P, js_P, mean_PK = _plain(model, picture)
        assert (labels.label.ravel() == label_P).mean() > 0.99  # a near-tie may go either way
        np.testing.assert_allclose(labels.uncertainty.ravel(), js_P, atol=1e-4)
        mean_softmax = segmenter.probabilities(picture)
        np.testing.assert_allclose(mean_softmax.reshape(len(mean_softmax), -1).T, mean_PK, atol=1e-4)
        of_label = np.take_along_axis(mean_softmax, labels.label[None].astype(np.int64), axis=0)[0]
        np.testing.assert_allclose(labels.confidence, of_label, atol=1e-5)  # sums in another order


def test_batch_size_changes_nothing() -> None:
    model, pictures = bundle(CONFIG, FEATURES), images(5, 16)
    expected = Segmenter(model, device="cpu").segment(pictures)
    for batch_size in (1, 2, 3, 5, 7):
        batched = Segmenter(model, device="cpu", batch_size=batch_size).segment(pictures)
        for actual, plain in zip(batched, expected, strict=True):
            _assert_same(actual, plain)
    one_by_one = [Segmenter(model, device="cpu").segment(picture[None])[0] for picture in pictures]
    for actual, plain in zip(one_by_one, expected, strict=True):
        _assert_same(actual, plain)


class SmallMemory:
    """A UNet or an ensemble with memory for so many images at a time; `sizes` are those it was given."""

    def __init__(self, inner: Any, largest: int) -> None:
        self.inner, self.largest, self.sizes = inner, largest, list[int]()

    def activations(self, x: torch.Tensor, *rest: Any) -> list[torch.Tensor]:
        return self.inner.activations(self._checked(x), *rest)

    def __call__(self, maps: list[torch.Tensor], size: tuple[int, int]) -> Iterator[Any]:
        answers = list(self.inner(maps, size))
        yield from answers[: self.largest]
        self._checked(maps[0])  # what was answered before memory ran out is not asked for again

    def _checked(self, x: torch.Tensor) -> torch.Tensor:
        self.sizes.append(len(x))
        if len(x) > self.largest:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return x


@pytest.mark.parametrize("part", ["unet", "ensemble"])
@pytest.mark.parametrize("largest", [1, 2, 3])
def test_out_of_memory_halves_the_batch_for_good(largest: int, part: str) -> None:
    model, pictures = bundle(CONFIG, FEATURES), images(7, 16)
    expected = Segmenter(model, device="cpu").segment(pictures)
    segmenter = Segmenter(model, device="cpu", batch_size=14)
    owner = segmenter.extractor if part == "unet" else segmenter
    small = SmallMemory(getattr(owner, part), largest)
    setattr(owner, part, small)
    for actual, plain in zip(segmenter.segment(pictures), expected, strict=True):
        _assert_same(actual, plain)
    small.sizes.clear()
    assert len(segmenter.segment(pictures)) == 7
    assert max(small.sizes) <= largest


def test_no_memory_for_one_image_is_an_error_that_says_its_size() -> None:
    segmenter = Segmenter(bundle(CONFIG, FEATURES), device="cpu", batch_size=4)
    segmenter.extractor.unet = SmallMemory(segmenter.extractor.unet, 0)  # type: ignore[assignment]
    with pytest.raises(torch.OutOfMemoryError, match="memory even for one 16 x 16 image: CUDA out of memory"):
        segmenter.segment(images(3, 16))


@pytest.mark.parametrize(
    "network",
    [TINY_MAE, TINY_SWAV, TINY_VDVAE, TINY_ALAE, TINY_DIFFUSERS],
    ids=["MAE", "SwAV", "VDVAE", "ALAE", "diffusers"],
)
@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
def test_the_fast_head_equals_the_plain_one_on_other_networks(network: Network, mode: Any) -> None:
    model = backbone_bundle(network)
    features = dataclasses.replace(model.features, upsample_mode=mode)  # type: ignore[type-var]
    model, size = dataclasses.replace(model, features=features), network.image_size
    found = Segmenter(model, device="cpu", batch_size=2).segment(images(3, size))
    maps = resident_extractor(model, "cpu")(images(3, size), features)
    for index, actual in enumerate(found):
        features_PD = transcription.pixel_features([one[index] for one in maps], (size, size), mode)
        logits = torch.stack([transcription.classifier(member)(features_PD) for member in model.members])
        label_P, uncertainty_P, _, _ = transcription.ensemble(logits)
        assert (torch.from_numpy(actual.label).flatten() == label_P).float().mean() > 0.999
        assert_close(torch.from_numpy(actual.uncertainty).flatten(), uncertainty_P.float())


def test_other_networks_take_the_other_number_formats_but_int8() -> None:
    model = backbone_bundle(TINY_MAE)
    plain, narrow = (Segmenter(model, device="cpu", dtype=dtype) for dtype in ("float32", "bfloat16"))
    agree = narrow.segment(images(1, 32))[0].label == plain.segment(images(1, 32))[0].label
    assert agree.mean() > 0.9
    with pytest.raises(ValueError, match="int8 works only for a DDPM's network; use float32"):
        Segmenter(model, device="cpu", dtype="int8")


def test_answers_have_the_promised_types() -> None:
    segmenter = Segmenter(bundle(CONFIG, FEATURES), device="cpu")
    labels = segmenter.segment(images(1, 16))[0]
    assert (segmenter.image_size, segmenter.task.num_classes) == (16, 5)
    assert (labels.label.dtype, labels.uncertainty.dtype, labels.confidence.dtype) == (np.uint8, np.float32, np.float32)
    assert labels.label.shape == labels.uncertainty.shape == labels.confidence.shape == (16, 16)
    assert labels.label.max() < 5
    probabilities = segmenter.probabilities(images(1, 16)[0])
    assert probabilities.shape == (5, 16, 16)
    np.testing.assert_allclose(probabilities.sum(axis=0), 1, atol=1e-5)


def test_no_images_no_answers() -> None:
    assert Segmenter(bundle(CONFIG, FEATURES), device="cpu").segment(np.zeros((0, 16, 16, 3), np.uint8)) == []


def test_views_of_images_are_read_as_they_look() -> None:
    segmenter, picture = Segmenter(bundle(CONFIG, FEATURES), device="cpu"), images(1, 16)
    mirrored = picture[:, :, ::-1]
    _assert_same(segmenter.segment(mirrored)[0], segmenter.segment(np.ascontiguousarray(mirrored))[0])


def test_bfloat16_keeps_most_labels_and_leaves_the_bundle_alone() -> None:
    model, pictures = bundle(CONFIG, FEATURES, num_members=5), images(3, 16)
    before = {key: value.clone() for key, value in model.weights.items()}
    exact = Segmenter(model, device="cpu").segment(pictures)
    rounded = Segmenter(model, device="cpu", dtype="bfloat16").segment(pictures)
    kept = [(a.label == b.label).mean() for a, b in zip(exact, rounded, strict=True)]
    assert min(kept) > 0.9
    assert any((a.uncertainty != b.uncertainty).any() for a, b in zip(exact, rounded, strict=True))
    for key, value in model.weights.items():
        assert value.dtype == torch.float32
        assert torch.equal(value, before[key])


def test_weights_stored_in_half_precision_give_nearly_the_same() -> None:
    model, pictures = bundle(CONFIG, FEATURES), images(2, 16)
    half = dataclasses.replace(model, weights={key: value.half() for key, value in model.weights.items()})
    exact, rounded = (Segmenter(stored, device="cpu").segment(pictures) for stored in (model, half))
    for a, b in zip(exact, rounded, strict=True):
        assert (a.label == b.label).mean() > 0.97


def test_pixels_map_to_minus_one_to_one() -> None:
    x = to_network(np.array([[[[0, 51, 255]]]], np.uint8), "cpu")
    torch.testing.assert_close(x, torch.tensor([-1.0, -0.6, 1.0]).view(1, 3, 1, 1))


@pytest.mark.parametrize(
    "wrong", [np.zeros((16, 16, 3), np.uint8), np.zeros((1, 16, 8, 3), np.uint8), np.zeros((1, 16, 16, 3), np.float32)]
)
def test_other_arrays_are_refused(wrong: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"must be \(N, 16, 16, 3\) uint8, got"):
        Segmenter(bundle(CONFIG, FEATURES), device="cpu").segment(wrong)


@pytest.mark.parametrize("batch_size", [0, -1])
def test_empty_batches_are_refused(batch_size: int) -> None:
    with pytest.raises(ValueError, match=f"batch_size must be at least 1, got {batch_size}"):
        Segmenter(bundle(CONFIG, FEATURES), device="cpu", batch_size=batch_size)


def test_a_ddpm_without_an_ensemble_is_refused() -> None:
    with pytest.raises(BundleError, match="without an ensemble"):
        Segmenter(dataclasses.replace(bundle(CONFIG, FEATURES), members=()), device="cpu")


def _plain(model: Bundle, picture: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """label (P,), uncertainty (P,) and mean softmax (P, K) by the transcription."""
    assert model.features is not None
    x_0 = torch.from_numpy(picture).permute(2, 0, 1)[None] / 127.5 - 1
    alpha_bars = transcription.alpha_bars(model.ddpm.diffusion.noise_schedule, model.ddpm.diffusion.steps)
    maps = []
    for step in model.features.steps:
        x_t = transcription.q_sample(x_0, alpha_bars[step], model.noise)
        decoded, _ = transcription.unet(model.ddpm.unet, model.weights, x_t, torch.tensor([step]))
        maps += [decoded[block][0] for block in sorted(model.features.blocks)]
    features_PD = transcription.pixel_features(maps, picture.shape[:2], model.features.upsample_mode)
    logits_MPK = torch.stack([transcription.classifier(member)(features_PD) for member in model.members])
    label_P, js_P, mean_PK, _ = transcription.ensemble(logits_MPK)
    return label_P.numpy(), js_P.numpy(), mean_PK.numpy()


def _assert_same(actual: PixelLabels, expected: PixelLabels) -> None:
    assert (actual.label == expected.label).mean() > 0.99
    np.testing.assert_allclose(actual.uncertainty, expected.uncertainty, atol=1e-5)
    differs = actual.label != expected.label
    np.testing.assert_allclose(actual.confidence[~differs], expected.confidence[~differs], atol=1e-5)
