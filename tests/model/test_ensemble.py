"""The classifiers' fast path compared with the plain one, which upsamples every feature and classifies every pixel."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ddpm_seg.benchmark import transcription
from ddpm_seg.data.statistics import most_uncertain_tenth
from ddpm_seg.model.ensemble import Ensemble, hidden_sizes
from tests.model.tiny_networks import assert_close, members, normal

SIZE = (16, 24)
CHANNELS, STRIDES = [8, 8, 5, 8, 1], [8, 2, 4, 2, 1]
SIDES = [SIZE[0] // stride for stride in STRIDES]


@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
@pytest.mark.parametrize(("classes", "count"), [(2, 1), (15, 4), (29, 10), (30, 3), (34, 10)])
def test_equals_the_plain_classifiers(classes: int, count: int, mode: str) -> None:
    models = members(count, classes, sum(CHANNELS))
    maps = _maps(images=3)
    fast = Ensemble(models, channels=CHANNELS, sides=SIDES, upsample_mode=mode)
    for index, votes in enumerate(fast(maps, SIZE)):
        features_PD = transcription.pixel_features([m[index] for m in maps], SIZE, mode)
        logits_MPK = torch.stack([transcription.classifier(member)(features_PD) for member in models])
        label_P, js_P, mean_PK, uncertainty = transcription.ensemble(logits_MPK)

        hidden = fast.first_layer([m[index] for m in maps])
        for actual, expected in zip(fast.logits(hidden, range(SIZE[0]), SIZE), logits_MPK, strict=True):
            assert_close(actual, expected)
        clear = _margin(logits_MPK) > 1e-4
        assert clear.float().mean() > 0.98
        assert torch.equal(votes.label.flatten()[clear], label_P[clear].to(torch.uint8))
        torch.testing.assert_close(votes.uncertainty.flatten(), js_P, atol=1e-5, rtol=0)
        assert_close(votes.probabilities.flatten(1).T, mean_PK)
        torch.testing.assert_close(
            votes.confidence.flatten()[clear], mean_PK.gather(1, label_P[:, None])[clear, 0], atol=1e-5, rtol=0
        )
        assert most_uncertain_tenth(votes.uncertainty.numpy().ravel()) == pytest.approx(uncertainty, abs=1e-5)


@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
@pytest.mark.parametrize("rows", [1, 3, 4, 11])
def test_strips_of_rows_change_nothing(rows: int, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fast = Ensemble(members(3, 15, sum(CHANNELS)), channels=CHANNELS, sides=SIDES, upsample_mode=mode)
    whole = list(fast(_maps(images=2), SIZE))
    monkeypatch.setattr("ddpm_seg.model.ensemble.HIDDEN_BYTES", rows * 4 * 128 * SIZE[1])
    for expected, actual in zip(whole, fast(_maps(images=2), SIZE), strict=True):
        for name in ("uncertainty", "confidence", "probabilities"):
            torch.testing.assert_close(getattr(actual, name), getattr(expected, name), atol=1e-5, rtol=0)
        assert (actual.label == expected.label).float().mean() > 0.99


@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
def test_what_large_images_take_changes_nothing(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows at a time that stay in a CPU's cache, and convolutions for the first layer's products."""
    fast = Ensemble(members(3, 15, sum(CHANNELS)), channels=CHANNELS, sides=SIDES, upsample_mode=mode)
    hidden = fast.first_layer([one[0] for one in _maps(images=1)])
    expected = torch.stack(list(fast.logits(hidden, range(SIZE[0]), SIZE)))
    monkeypatch.setattr("ddpm_seg.model.ensemble.CONVOLVED_PIXELS", 0)
    monkeypatch.setattr("ddpm_seg.model.kernels.upsampled.CACHED_BYTES", 0)
    for rows in (3, 5, 16):
        monkeypatch.setattr("ddpm_seg.model.kernels.upsampled.ROWS", rows)
        again = fast.first_layer([one[0] for one in _maps(images=1)])
        assert_close(torch.stack(list(fast.logits(again, range(SIZE[0]), SIZE))), expected)


@pytest.mark.parametrize("strides", [[1], [2], [1, 2], [2, 1, 4]])
def test_a_member_does_not_change_what_the_next_one_reads(strides: list[int]) -> None:
    """The first layer's products are shared by all strips, so nothing may be computed in their place."""
    sides, channels = [SIZE[0] // stride for stride in strides], [8] * len(strides)
    fast = Ensemble(members(2, 15, sum(channels)), channels=channels, sides=sides, upsample_mode="bilinear")
    hidden = fast.first_layer([normal(s, 8, side, side * SIZE[1] // SIZE[0]) for s, side in enumerate(sides)])
    before = [one.clone() for group in hidden for one in group]
    assert len(list(fast.logits(hidden, range(SIZE[0]), SIZE))) == 2
    after = [one for group in hidden for one in group]
    assert all(torch.equal(*pair) for pair in zip(after, before, strict=True))


def test_classifiers_grow_at_thirty_classes() -> None:
    assert (hidden_sizes(29), hidden_sizes(30)) == ((128, 32), (256, 128))


def test_maps_that_do_not_fit_the_classifiers_are_refused() -> None:
    with pytest.raises(ValueError, match=r"read 30 features per pixel, but the maps have 29"):
        Ensemble(members(1, 3, 30), channels=[8, 21], sides=[8, 16], upsample_mode="bilinear")


def _maps(images: int) -> list[Tensor]:
    shapes = [(images, c, SIZE[0] // s, SIZE[1] // s) for c, s in zip(CHANNELS, STRIDES, strict=True)]
    return [normal(seed, *shape) for seed, shape in enumerate(shapes)]


def _margin(logits_MPK: Tensor) -> Tensor:
    """By how much the members' winners lead; where it is nothing, rounding may decide the label."""
    best = logits_MPK.topk(2, dim=-1).values
    return (best[..., 0] - best[..., 1]).amin(dim=0)
