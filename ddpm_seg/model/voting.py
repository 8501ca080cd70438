"""The members' vote: from their logits to label, uncertainty and confidence per pixel."""

# Shapes: M members, K classes, P pixels in R rows of W.

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ddpm_seg.model.top_classes import top_classes


@dataclass(frozen=True, kw_only=True, slots=True)
class Votes:
    """The ensemble's result for R rows of W pixels."""

    label: Tensor
    """(R, W) uint8: the class that most members choose; on a tie the smallest."""
    uncertainty: Tensor
    """(R, W) float32 in [0, log K]: Jensen-Shannon divergence between members, H(mean p) - mean H(p)."""
    confidence: Tensor
    """(R, W) float32 in [0, 1]: softmax of the label, averaged over the members."""
    probabilities: Tensor
    """(K, R, W) float32: softmax, averaged over the members."""
    finer: Tensor | None = None
    """(K, 2 R, 2 W) float32: the probabilities on a grid twice as fine, if they are known there."""
    domain_distance: Tensor | None = None
    """() float32: the whole image's, see `model.domain`; None if the bundle does not know its training images."""

    def calibrated(self, temperatures_K: Tensor) -> Votes:
        """softmax(log p / T), with the temperature of each pixel's most probable class. Labels and uncertainty stay."""
        p = _calibrated(self.probabilities, temperatures_K)
        confidence = p.gather(0, self.label[None].long())[0]
        finer = None if self.finer is None else _calibrated(self.finer, temperatures_K)
        return dataclasses.replace(self, probabilities=p, confidence=confidence, finer=finer)

    def arrays(self) -> dict[str, Tensor]:
        """By the names of `PixelLabels`."""
        own = {"label": self.label, "uncertainty": self.uncertainty, "confidence": self.confidence}
        about = {} if self.domain_distance is None else {"domain_distance": self.domain_distance}
        return own | about | top_classes(self.probabilities if self.finer is None else self.finer)


def _calibrated(p_KRW: Tensor, temperatures_K: Tensor) -> Tensor:
    log_p = p_KRW.clamp_min(1e-12).log()
    return (log_p / temperatures_K[p_KRW.argmax(dim=0)]).softmax(dim=0)


def vote(logits: Iterable[Tensor], width: int) -> Votes:
    """Majority label, disagreement and confidence (DDPM-Seg, `predict_labels`) from each member's logits (P, K), for
    rows of `width` pixels.

    Raises ValueError for no members.
    """
    sums: tuple[Tensor, Tensor, Tensor] | None = None
    members = 0
    for logits_PK in logits:
        log_p = logits_PK.float().log_softmax(dim=1)
        p_PK = log_p.exp()
        entropy_P = -(p_PK * log_p).sum(dim=1)
        if sums is None:
            sums = p_PK, entropy_P, torch.zeros_like(p_PK)
        else:
            sums[0].add_(p_PK)
            sums[1].add_(entropy_P)
        sums[2].scatter_add_(1, logits_PK.argmax(dim=1, keepdim=True), torch.ones_like(p_PK[:, :1]))
        members += 1
    if sums is None:
        raise ValueError("an ensemble needs at least one member")
    mean_PK, entropy_P, counts_PK = sums[0].div_(members), sums[1].div_(members), sums[2]
    # Ties go to the smallest class, as in torch.mode: add a strictly decreasing bonus smaller than one vote.
    classes = torch.arange(counts_PK.shape[1], device=counts_PK.device)
    label_P = (counts_PK * counts_PK.shape[1] - classes).argmax(dim=1)
    js_P = (-torch.special.xlogy(mean_PK, mean_PK).sum(dim=1) - entropy_P).clamp_min_(0)
    return Votes(
        label=label_P.to(torch.uint8).view(-1, width),
        uncertainty=js_P.view(-1, width),
        confidence=mean_PK.gather(1, label_P[:, None]).view(-1, width),
        probabilities=mean_PK.T.unflatten(1, (-1, width)),
    )


def stack_rows(strips: Sequence[Votes]) -> Votes:
    """The votes of an image from those of its strips, top to bottom."""
    return Votes(
        label=torch.cat([strip.label for strip in strips]),
        uncertainty=torch.cat([strip.uncertainty for strip in strips]),
        confidence=torch.cat([strip.confidence for strip in strips]),
        probabilities=torch.cat([strip.probabilities for strip in strips], dim=1),
    )


def probabilities_and_entropy(votes: Votes) -> Tensor:
    """(K + 1, S, S): the mean softmax, then the mean entropy of the members, as uncertainty = H(mean p) - mean H(p)."""
    entropy_SS = torch.special.entr(votes.probabilities).sum(dim=0)
    return torch.cat([votes.probabilities, (entropy_SS - votes.uncertainty)[None]])
