"""The pixel classifiers: from native-resolution maps to label, uncertainty and confidence of every pixel.

The first layer commutes with upsampling: both are linear, one over channels and one over positions, so
W concat(up(a_1), up(a_2), ...) = sum_i up(W_i a_i). The product is taken at each map's own resolution, for all members
at once, and the concatenated feature image (2.2 GB at the published size) is never built.
"""

# Shapes: M members, K classes, D features, H1 and H2 hidden units, P = H * W pixels.

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

Member = Mapping[str, Tensor]
"""A pixel classifier's state dict with the published keys: layers.0.weight (H1, D) ... layers.6.bias (K,)."""

BATCH_NORM_EPS = 1e-5


def hidden_sizes(num_classes: int) -> tuple[int, int]:
    """H1 and H2 of the published classifier, which depend on the number of classes."""
    return (128, 32) if num_classes < 30 else (256, 128)


def member_shapes(num_classes: int, dim: int) -> dict[str, tuple[int, ...]]:
    """Shape of every entry of a published classifier's state dict."""
    h1, h2 = hidden_sizes(num_classes)
    shapes: dict[str, tuple[int, ...]] = {}
    for index, (rows, columns) in zip((0, 3, 6), ((h1, dim), (h2, h1), (num_classes, h2)), strict=True):
        shapes |= {f"layers.{index}.weight": (rows, columns), f"layers.{index}.bias": (rows,)}
    for index, width in ((2, h1), (5, h2)):
        shapes |= {f"layers.{index}.{name}": (width,) for name in ("weight", "bias", "running_mean", "running_var")}
        shapes[f"layers.{index}.num_batches_tracked"] = ()
    return shapes


@dataclass(frozen=True, kw_only=True, slots=True)
class Votes:
    """What the ensemble says of one image's H x W pixels."""

    label: Tensor
    """(H, W) uint8: the class that most members name; the smallest of several."""
    uncertainty: Tensor
    """(H, W) float32 in [0, log K]: Jensen-Shannon divergence between members, H(mean p) - mean H(p)."""
    confidence: Tensor
    """(H, W) float32 in [0, 1]: the members' mean softmax for the label."""
    probabilities: Tensor
    """(K, H, W) float32: the members' mean softmax."""


class Ensemble:
    """Resident classifiers on one device, float32."""

    def __init__(
        self,
        members: Sequence[Member],
        *,
        channels: Sequence[int],
        strides: Sequence[int],
        upsample_mode: str,
        device: torch.device | str = "cpu",
    ) -> None:
        """`channels` and `strides` describe the feature maps in order (`FeatureConfig.channels`, `.strides`)."""
        dim = members[0]["layers.0.weight"].shape[1]
        if sum(channels) != dim:
            raise ValueError(
                f"the classifiers read {dim} features a pixel, but the maps have {sum(channels)}: {channels}"
            )
        self.upsample_mode = upsample_mode
        self.num_members = len(members)
        self.groups = [[i for i, s in enumerate(strides) if s == stride] for stride in sorted(set(strides))]
        first = torch.cat([member["layers.0.weight"] for member in members]).float()
        columns = first.split(list(channels), dim=1)
        self.first_weights = [torch.cat([columns[i] for i in group], dim=1).to(device) for group in self.groups]
        self.first_bias = torch.stack([member["layers.0.bias"] for member in members]).float().to(device)
        self.rest = [_fold_batch_norms(member, device) for member in members]

    @torch.inference_mode()
    def __call__(self, maps: Sequence[Tensor], size: tuple[int, int]) -> Iterator[Votes]:
        """Votes for each image of `maps` (each (N, C_i, h_i, w_i)), at `size` (H, W).

        One image at a time: M x H1 x H x W hidden units of one image are already 170 MB at the published size.
        """
        for index in range(len(maps[0])):
            yield vote(self.logits([map_NCHW[index] for map_NCHW in maps], size), size)

    def logits(self, maps: Sequence[Tensor], size: tuple[int, int]) -> Iterator[Tensor]:
        """Each member's logits (K, P) for one image's maps (C_i, h_i, w_i)."""
        hidden = [
            self._first_layer(weight, [maps[i] for i in group])
            for weight, group in zip(self.first_weights, self.groups, strict=True)
        ]
        for member, (w2, b2, w3, b3) in enumerate(self.rest):
            h_1P = self.first_bias[member][:, None]
            for hidden_MHhw in hidden:
                h_1P = h_1P + self._upsample(hidden_MHhw[member], size).flatten(1)
            h_2P = torch.addmm(b2[:, None], w2, h_1P.relu_()).relu_()
            yield torch.addmm(b3[:, None], w3, h_2P)

    def _first_layer(self, weight: Tensor, maps: Sequence[Tensor]) -> Tensor:
        """All members' first products at one resolution: (M, H1, h, w)."""
        stacked = torch.cat([map_Chw.float() for map_Chw in maps]) if len(maps) > 1 else maps[0].float()
        product = weight @ stacked.flatten(1)
        return product.view(self.num_members, -1, *stacked.shape[1:])

    def _upsample(self, hidden_Hhw: Tensor, size: tuple[int, int]) -> Tensor:
        if hidden_Hhw.shape[1:] == size:
            return hidden_Hhw
        return F.interpolate(hidden_Hhw[None], size=size, mode=self.upsample_mode)[0]


def vote(logits: Iterator[Tensor], size: tuple[int, int]) -> Votes:
    """Majority label, disagreement and confidence (DDPM-Seg, `predict_labels`) from members' (K, P) logits."""
    sum_p = sum_entropy = counts = None
    members = 0
    for logits_KP in logits:
        log_p = logits_KP.float().log_softmax(dim=0)
        p_KP = log_p.exp()
        entropy_P = -(p_KP * log_p).sum(dim=0)
        named_KP = F.one_hot(logits_KP.argmax(dim=0), len(logits_KP)).T
        if sum_p is None or sum_entropy is None or counts is None:
            sum_p, sum_entropy, counts = p_KP, entropy_P, named_KP
        else:
            sum_p, sum_entropy, counts = sum_p + p_KP, sum_entropy + entropy_P, counts + named_KP
        members += 1
    if sum_p is None or sum_entropy is None or counts is None:
        raise ValueError("an ensemble needs at least one member")
    mean_KP = sum_p / members
    # Ties go to the smallest class, as torch.mode gives them: a strictly decreasing bonus below one vote.
    classes = torch.arange(len(counts), device=counts.device)[:, None]
    label_P = (counts * len(counts) - classes).argmax(dim=0)
    js_P = (-torch.special.xlogy(mean_KP, mean_KP).sum(dim=0) - sum_entropy / members).clamp_min(0)
    confidence_P = mean_KP.gather(0, label_P[None])[0]
    return Votes(
        label=label_P.to(torch.uint8).view(size),
        uncertainty=js_P.view(size),
        confidence=confidence_P.view(size),
        probabilities=mean_KP.view(-1, *size),
    )


def _fold_batch_norms(member: Member, device: torch.device | str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Second and third layers with the batch norm before each one folded in: (H2, H1), (H2,), (K, H2), (K,)."""
    folded = []
    for norm, linear in ((2, 3), (5, 6)):
        entry = {
            name: member[f"layers.{norm}.{name}"].double() for name in ("weight", "bias", "running_mean", "running_var")
        }
        scale = entry["weight"] / (entry["running_var"] + BATCH_NORM_EPS).sqrt()
        weight = member[f"layers.{linear}.weight"].double()
        bias = member[f"layers.{linear}.bias"].double() + weight @ (entry["bias"] - entry["running_mean"] * scale)
        folded += [(weight * scale).float().to(device), bias.float().to(device)]
    return folded[0], folded[1], folded[2], folded[3]
