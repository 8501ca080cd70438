"""The classifiers' fast path against the plain one: every feature upsampled, every pixel a row."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from ddpm_seg.data.statistics import most_uncertain_tenth
from ddpm_seg.model.ensemble import Ensemble, Votes, hidden_sizes, vote
from tests.model import oracle
from tests.model.tiny_networks import assert_close, members, normal

SIZE = (16, 24)
CHANNELS, STRIDES = [8, 8, 5, 8, 1], [8, 2, 4, 2, 1]


@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
@pytest.mark.parametrize(("classes", "count"), [(2, 1), (15, 4), (29, 10), (30, 3), (34, 10)])
def test_equals_the_plain_classifiers(classes: int, count: int, mode: str) -> None:
    models = members(count, classes, sum(CHANNELS))
    maps = _maps(images=3)
    fast = Ensemble(models, channels=CHANNELS, strides=STRIDES, upsample_mode=mode)
    for index, votes in enumerate(fast(maps, SIZE)):
        features_PD = oracle.pixel_features([m[index] for m in maps], SIZE, mode)
        logits_MPK = torch.stack([oracle.classifier(member)(features_PD) for member in models])
        label_P, js_P, mean_PK, uncertainty = oracle.ensemble(logits_MPK)

        for actual, expected in zip(fast.logits([m[index] for m in maps], SIZE), logits_MPK, strict=True):
            assert_close(actual.T, expected)
        clear = _margin(logits_MPK) > 1e-4
        assert clear.float().mean() > 0.98
        assert torch.equal(votes.label.flatten()[clear], label_P[clear].to(torch.uint8))
        torch.testing.assert_close(votes.uncertainty.flatten(), js_P, atol=1e-5, rtol=0)
        assert_close(votes.probabilities.flatten(1).T, mean_PK)
        torch.testing.assert_close(
            votes.confidence.flatten()[clear], mean_PK.gather(1, label_P[:, None])[clear, 0], atol=1e-5, rtol=0
        )
        assert most_uncertain_tenth(votes.uncertainty.numpy().ravel()) == pytest.approx(uncertainty, abs=1e-5)


def test_classifiers_grow_at_thirty_classes() -> None:
    assert (hidden_sizes(29), hidden_sizes(30)) == ((128, 32), (256, 128))


def test_a_tie_goes_to_the_smallest_class() -> None:
    assert _vote([[3], [1], [3], [1], [0]]).label.tolist() == [[1]]
    assert _vote([[4], [2], [0]]).label.tolist() == [[0]]
    assert _vote([[4], [2], [2], [0]]).label.tolist() == [[2]]


def test_equals_the_mode_of_random_votes() -> None:
    named_MP = torch.randint(0, 4, (6, 500), generator=torch.Generator().manual_seed(0))
    assert torch.equal(_vote(named_MP.tolist()).label[0].long(), named_MP.mode(dim=0).values)


def test_the_last_of_255_classes_can_win() -> None:
    votes = _vote([[254], [254], [3]], classes=255)
    assert votes.label.dtype == torch.uint8
    assert votes.label.item() == 254


def test_uncertainty_runs_from_agreement_to_full_disagreement() -> None:
    certain = _vote([[1], [1]], sharpness=100)
    assert certain.uncertainty.item() == 0
    assert certain.confidence.item() == 1
    split = _vote([[0], [1]], sharpness=100)
    assert split.uncertainty.item() == pytest.approx(math.log(2))
    assert split.confidence.item() == pytest.approx(0.5)
    flat = vote(iter([torch.zeros(5, 1)] * 3), (1, 1))
    assert flat.uncertainty.item() == pytest.approx(0, abs=1e-6)
    assert flat.confidence.item() == pytest.approx(0.2)


def test_uncertainty_is_the_published_formula_and_members_have_no_order() -> None:
    logits_MKP = normal(0, 4, 6, 200) * 3
    votes = vote(iter(logits_MKP), (10, 20))
    label_P, js_P, mean_PK, _ = oracle.ensemble(logits_MKP.transpose(1, 2))
    torch.testing.assert_close(votes.uncertainty.flatten(), js_P, atol=1e-5, rtol=0)
    torch.testing.assert_close(votes.probabilities.flatten(1).T, mean_PK)
    assert torch.equal(votes.label.flatten().long(), label_P)
    assert votes.uncertainty.max() <= math.log(4)
    reverse = vote(iter(logits_MKP.flip(0)), (10, 20))
    assert torch.equal(reverse.label, votes.label)
    torch.testing.assert_close(reverse.uncertainty, votes.uncertainty, atol=1e-6, rtol=0)


def test_overflowing_logits_stay_finite() -> None:
    votes = vote(iter(normal(0, 3, 5, 12) * 1e5), (3, 4))
    assert votes.uncertainty.isfinite().all()
    assert votes.confidence.isfinite().all()


def test_maps_that_do_not_fit_the_classifiers_are_refused() -> None:
    with pytest.raises(ValueError, match=r"read 30 features a pixel, but the maps have 29"):
        Ensemble(members(1, 3, 30), channels=[8, 21], strides=[2, 1], upsample_mode="bilinear")


def test_an_ensemble_of_none_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one member"):
        vote(iter([]), (1, 1))


def _maps(images: int) -> list[Tensor]:
    shapes = [(images, c, SIZE[0] // s, SIZE[1] // s) for c, s in zip(CHANNELS, STRIDES, strict=True)]
    return [normal(seed, *shape) for seed, shape in enumerate(shapes)]


def _vote(named_MP: list[list[int]], *, classes: int = 5, sharpness: float = 1.0) -> Votes:
    """The vote of members that name these classes."""

    def logits() -> Iterator[Tensor]:
        for named_P in named_MP:
            yield torch.nn.functional.one_hot(torch.tensor(named_P), classes).T * sharpness

    return vote(logits(), (1, len(named_MP[0])))


def _margin(logits_MPK: Tensor) -> Tensor:
    """By how much the members' winners lead; where it is nothing, rounding may decide the label."""
    best = logits_MPK.topk(2, dim=-1).values
    return (best[..., 0] - best[..., 1]).amin(dim=0)
