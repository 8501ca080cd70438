"""Pixel classifiers in training, stacked: one batched pass makes a step for every member, each on its own batch.

Shapes: M members, B pixels per batch, D features, H hidden units, K classes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ddpm_seg.model.ensemble import BATCH_NORM_EPS, Member, member_shapes

LINEAR, NORM = (0, 3, 6), (2, 5)  # positions in the published nn.Sequential; 1 and 4 are its ReLUs
LEARNED = tuple(f"layers.{index}.{name}" for index in (*LINEAR, *NORM) for name in ("weight", "bias"))

MOST_MEMBERS = 2**15
SEEDS = 2**32 // MOST_MEMBERS  # torch's CPU generator uses 32 bits of a seed: larger seeds would repeat these


def member_generator(seed: int, number: int) -> torch.Generator:
    """The only source of randomness of member `number`: first for its weights, then for the pixel order of each
    epoch."""
    return torch.Generator().manual_seed(seed * MOST_MEMBERS + number)


def initial_member(num_features: int, num_classes: int, generator: torch.Generator) -> Member:
    """The published `init_weights`: linear weights from N(0, 0.02), biases 0; BatchNorm as torch starts it."""
    member: dict[str, Tensor] = {}
    for key, shape in member_shapes(num_classes, num_features).items():
        if len(shape) == 2:
            member[key] = torch.randn(shape, generator=generator) * 0.02
        elif key.endswith("num_batches_tracked"):
            member[key] = torch.zeros(shape, dtype=torch.int64)
        elif key.endswith(("weight", "running_var")):
            member[key] = torch.ones(shape)
        else:
            member[key] = torch.zeros(shape)
    return member


def epoch_order(num_pixels: int, generator: torch.Generator) -> Tensor:
    """A member's order of all pixels for one epoch, int64 (P,)."""
    return torch.randperm(num_pixels, generator=generator)


def on_raw_features(member: Member, mean_D: Tensor, deviation_D: Tensor) -> Member:
    """Converts `member`, trained on (feature - mean) / deviation, to take features as they are: W / s, b - W m / s."""
    weight_HD = member["layers.0.weight"].double() / deviation_D.cpu().double()
    bias_H = member["layers.0.bias"].double() - weight_HD @ mean_D.cpu().double()
    return {**member, "layers.0.weight": weight_HD.float(), "layers.0.bias": bias_H.float()}


def member_logits(member: Member, x_PD: Tensor) -> Tensor:
    """Logits (P, K) of a trained member on features (P, D): twice linear, ReLU, BatchNorm (running moments), then
    linear."""
    y = x_PD
    for linear, norm in zip(LINEAR, (*NORM, None), strict=True):
        y = F.linear(y, *(member[f"layers.{linear}.{name}"].to(y) for name in ("weight", "bias")))
        if norm is not None:
            mean, var, weight, bias = (
                member[f"layers.{norm}.{name}"].to(y) for name in ("running_mean", "running_var", "weight", "bias")
            )
            y = F.batch_norm(y.relu(), mean, var, weight, bias, eps=BATCH_NORM_EPS)
    return y


class MemberStack:
    """Members in training, stacked along dimension 0, with their Adam state."""

    def __init__(self, members: list[Member], *, weight_decay: float = 0.0, device: torch.device) -> None:
        self.tensors = {key: torch.stack([member[key] for member in members]).to(device) for key in members[0]}
        self.weight_decay, self.device = weight_decay, device
        self.optimizer = self._new_optimizer()

    def step(self, x_MBD: Tensor, label_MB: Tensor, learning_rate: float) -> Tensor:
        """One Adam step for every member on its own batch; returns the cross-entropies (M,) before the step.

        Weight decay is decoupled from the gradient (AdamW); with 0 this is Adam. Members share no parameter, so the sum
        of their losses gives each its own gradient.
        """
        losses_M = F.cross_entropy(self._logits(x_MBD), label_MB, reduction="none").mean(dim=1)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.optimizer.zero_grad()
        losses_M.sum().backward()
        self.optimizer.step()
        return losses_M.detach()

    def member(self, index: int) -> Member:
        """Member `index` as a published state dict, on the CPU, sharing no memory with the stack."""
        return {key: stacked[index].detach().cpu().clone() for key, stacked in self.tensors.items()}

    def keep(self, chosen_M: Tensor) -> None:
        """Keeps the members marked true in `chosen_M` bool (M,), with parameters and Adam state unchanged; drops the
        others."""
        chosen_M = chosen_M.to(self.device)
        whole = self.state()
        self.resume(
            {
                "tensors": {key: stacked[chosen_M] for key, stacked in whole["tensors"].items()},
                "adam": {
                    key: {name: value if name == "step" else value[chosen_M] for name, value in moments.items()}
                    for key, moments in whole["adam"].items()
                },
            }
        )

    def state(self) -> dict[str, dict[str, Any]]:
        """Parameters, running moments and Adam state, sharing memory with the stack."""
        return {
            "tensors": {key: stacked.detach() for key, stacked in self.tensors.items()},
            "adam": {key: dict(self.optimizer.state[self.tensors[key]]) for key in LEARNED},
        }

    def resume(self, state: dict[str, dict[str, Any]]) -> None:
        """Restores a `state`, with the number of members that it has. Raises ValueError if it does not fit."""
        own, found = (
            {key: tensor.shape[1:] for key, tensor in one.items()} for one in (self.tensors, state["tensors"])
        )
        if found != own or set(state["adam"]) != {*LEARNED}:
            raise ValueError("its tensors have other shapes")
        self.tensors = {key: stacked.to(self.device) for key, stacked in state["tensors"].items()}
        self.optimizer = self._new_optimizer()
        for key, moments in state["adam"].items():
            self.optimizer.state[self.tensors[key]] = {name: value.to(self.device) for name, value in moments.items()}

    def _new_optimizer(self) -> torch.optim.AdamW:
        learned = [self.tensors[key].requires_grad_() for key in LEARNED]
        return torch.optim.AdamW(learned, weight_decay=self.weight_decay, fused=True)

    def _logits(self, x_MBD: Tensor) -> Tensor:
        """Logits (M, K, B). With pixels last, all members' BatchNorms are a single one over M * H channels, without a
        copy."""
        y = x_MBD.transpose(1, 2)
        for linear, norm in zip(LINEAR, (*NORM, None), strict=True):
            weight, bias = self.tensors[f"layers.{linear}.weight"], self.tensors[f"layers.{linear}.bias"]
            y = torch.baddbmm(bias[:, :, None], weight, y)  # (M, H, B)
            if norm is not None:
                y = self._batch_norm(y.relu(), norm)
        return y

    def _batch_norm(self, y_MHB: Tensor, index: int) -> Tensor:
        """Training mode of nn.BatchNorm1d with its defaults: uses the batch's moments and updates the running ones in
        place."""
        mean, var, weight, bias = (
            self.tensors[f"layers.{index}.{name}"].view(-1)
            for name in ("running_mean", "running_var", "weight", "bias")
        )
        self.tensors[f"layers.{index}.num_batches_tracked"] += 1
        y = F.batch_norm(y_MHB.reshape(1, -1, y_MHB.shape[-1]), mean, var, weight, bias, True, 0.1, BATCH_NORM_EPS)
        return y.view_as(y_MHB)


def mean_softmax(members: Iterable[Member], x_PD: Tensor) -> Tensor:
    """Softmax (P, K) of features (P, D), averaged over trained members."""
    return torch.stack([member_logits(member, x_PD).softmax(dim=1) for member in members]).mean(dim=0)
