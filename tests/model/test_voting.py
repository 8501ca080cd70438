"""The members' vote against the published formulas."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from ddpm_seg.benchmark import transcription
from ddpm_seg.model.voting import Votes, stack_rows, vote
from tests.model.tiny_networks import normal


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
    flat = vote([torch.zeros(1, 5)] * 3, 1)
    assert flat.uncertainty.item() == pytest.approx(0, abs=1e-6)
    assert flat.confidence.item() == pytest.approx(0.2)


def test_uncertainty_is_the_published_formula_and_members_have_no_order() -> None:
    logits_MPK = normal(0, 4, 200, 6) * 3
    votes = vote(logits_MPK, 20)
    label_P, js_P, mean_PK, _ = transcription.ensemble(logits_MPK)
    torch.testing.assert_close(votes.uncertainty.flatten(), js_P, atol=1e-5, rtol=0)
    torch.testing.assert_close(votes.probabilities.flatten(1).T, mean_PK)
    assert torch.equal(votes.label.flatten().long(), label_P)
    assert votes.uncertainty.max() <= math.log(4)
    reverse = vote(logits_MPK.flip(0), 20)
    assert torch.equal(reverse.label, votes.label)
    torch.testing.assert_close(reverse.uncertainty, votes.uncertainty, atol=1e-6, rtol=0)


def test_confidence_is_that_of_the_label_which_need_not_be_the_likeliest_class() -> None:
    """Two members lean to class 0, one is sure of class 1, whose mean probability is higher."""
    logits_MPK = torch.tensor([[[0.1, 0.0]], [[0.1, 0.0]], [[0.0, 9.0]]])
    votes = vote(logits_MPK, 1)
    mean_K = logits_MPK.softmax(dim=2).mean(dim=0)[0]
    assert votes.label.item() == 0
    assert mean_K.argmax().item() == 1
    assert votes.confidence.item() == pytest.approx(mean_K[0].item())


def test_members_that_agree_are_never_less_than_certain() -> None:
    """Rounding makes some of these divergences negative, of which nobody could take a logarithm or a root."""
    logits_PK = normal(3, 5000, 7) * 4
    assert vote([logits_PK] * 3, 100).uncertainty.min() == 0


def test_overflowing_logits_stay_finite() -> None:
    votes = vote(normal(0, 3, 12, 5) * 1e5, 4)
    assert votes.uncertainty.isfinite().all()
    assert votes.confidence.isfinite().all()


def test_an_ensemble_of_none_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one member"):
        vote([], 1)


def test_strips_of_an_image_are_stacked_to_the_whole() -> None:
    logits_MPK = normal(0, 4, 6 * 7, 5)
    whole, strips = vote(logits_MPK, 7), stack_rows([vote(logits_MPK[:, :14], 7), vote(logits_MPK[:, 14:], 7)])
    for name in ("label", "uncertainty", "confidence", "probabilities"):
        assert torch.equal(getattr(strips, name), getattr(whole, name)), name


def _vote(named_MP: list[list[int]], *, classes: int = 5, sharpness: float = 1.0) -> Votes:
    """The vote of members that name these classes."""

    def logits() -> Iterator[Tensor]:
        for named_P in named_MP:
            yield torch.nn.functional.one_hot(torch.tensor(named_P), classes) * sharpness

    return vote(logits(), len(named_MP[0]))
