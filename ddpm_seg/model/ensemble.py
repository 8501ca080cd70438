"""The pixel classifiers: from native-resolution maps to label, uncertainty and confidence per pixel.

The first layer commutes with upsampling, since both are linear, one over channels and one over positions: W
concat(up(a_1), up(a_2), ...) = sum_i up(W_i a_i). So the product is taken at each map's own resolution, for all members
at once, and the concatenated feature image (2.2 GB at the published size) is never built.
"""

# Shapes: M members, K classes, D features, H1 and H2 hidden units, P pixels.

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ddpm_seg.model.kernels.checked import usable
from ddpm_seg.model.kernels.upsampled import upsampled_sums
from ddpm_seg.model.voting import Votes, stack_rows, vote

Member = Mapping[str, Tensor]
"""A pixel classifier's state dict with the published keys: layers.0.weight (H1, D) ... layers.6.bias (K,)."""

BATCH_NORM_EPS = 1e-5
HIDDEN_BYTES = 2**26
"""If one member's first hidden units of an image would take more, a CPU votes on one strip of rows after another. It is
what 256 x 256 pixels take."""
CONVOLVED_PIXELS = 64 * 64
"""For maps of this many pixels or more, oneDNN's 1 x 1 convolutions take less time on a CPU than MKL's products."""
NEAR, SAME = 0.002, 0.98
"""A kernel's mean error in probabilities, and its share of equal labels, on noise: TF32 and bfloat16 keep to them."""


def hidden_sizes(num_classes: int) -> tuple[int, int]:
    """H1 and H2 of the published classifier, which depend on the number of classes."""
    return (128, 32) if num_classes < 30 else (256, 128)


def member_shapes(num_classes: int, dim: int) -> dict[str, tuple[int, ...]]:
    """Shape of every entry in a published classifier's state dict."""
    h1, h2 = hidden_sizes(num_classes)
    shapes: dict[str, tuple[int, ...]] = {}
    for index, (rows, columns) in zip((0, 3, 6), ((h1, dim), (h2, h1), (num_classes, h2)), strict=True):
        shapes |= {f"layers.{index}.weight": (rows, columns), f"layers.{index}.bias": (rows,)}
    for index, width in ((2, h1), (5, h2)):
        shapes |= {f"layers.{index}.{name}": (width,) for name in ("weight", "bias", "running_mean", "running_var")}
        shapes[f"layers.{index}.num_batches_tracked"] = ()
    return shapes


class Ensemble:
    """Classifiers resident on one device, in float32; on a GPU, the products may be taken in a shorter type."""

    def __init__(
        self,
        members: Sequence[Member],
        *,
        channels: Sequence[int],
        sides: Sequence[int],
        upsample_mode: str,
        device: torch.device | str = "cpu",
        gpu_dtype: torch.dtype = torch.float32,
    ) -> None:
        """`channels` and `sides` describe the feature maps in order (`FeatureConfig.channels`, `.sides`). On a GPU,
        products are taken in `gpu_dtype`."""
        dim = members[0]["layers.0.weight"].shape[1]
        if sum(channels) != dim:
            raise ValueError(
                f"the classifiers read {dim} features per pixel, but the maps have {sum(channels)}: {channels}"
            )
        self.upsample_mode = upsample_mode
        self.num_members = len(members)
        self.groups = [[i for i, s in enumerate(sides) if s == side] for side in sorted(set(sides), reverse=True)]
        first = torch.stack([member["layers.0.weight"] for member in members]).float()
        columns = first.split(list(channels), dim=2)
        self.first_weights = [torch.cat([columns[i] for i in group], dim=2).to(device) for group in self.groups]
        self.first_bias = torch.stack([member["layers.0.bias"] for member in members]).float().to(device)
        self.rest = [_fold_batch_norms(member, device) for member in members]
        self.fused = self._fused(channels, sides, gpu_dtype) if torch.device(device).type == "cuda" else None

    @torch.inference_mode()
    def __call__(self, maps: Sequence[Tensor], size: tuple[int, int]) -> Iterator[Votes]:
        """Yields the votes for each image in `maps` (each (N, C_i, h_i, w_i)), at `size` (H, W)."""
        for index in range(len(maps[0])):
            if self.fused:
                yield self.fused([map_NCHW[index : index + 1] for map_NCHW in maps], size)
                continue
            hidden = self.first_layer([map_NCHW[index] for map_NCHW in maps])
            rows, number = range(size[0]), self._rows_at_once(size, maps[0].device)
            strips = [rows[top : top + number] for top in range(0, size[0], number)]
            yield stack_rows([vote(self.logits(hidden, strip, size), size[1]) for strip in strips])

    def first_layer(self, maps: Sequence[Tensor]) -> list[list[Tensor]]:
        """The first layer on one image's maps (C_i, h_i, w_i), before the activation: for each resolution, its
        contribution (h, w, H1) to each member's hidden units. The first one has the bias, which upsampling keeps as it
        is."""
        hidden: list[list[Tensor]] = []
        for weight_MHD, group in zip(self.first_weights, self.groups, strict=True):
            # Transposing each as a matrix takes two thirds of the time that one permuted copy of NCHW maps takes.
            pixels_PD = torch.cat([maps[i].float().flatten(1).T.contiguous() for i in group], dim=1)
            pixels_hwD = pixels_PD.unflatten(0, maps[group[0]].shape[1:])
            biases = [None] * self.num_members if hidden else self.first_bias
            hidden.append([_linear(pixels_hwD, *layer) for layer in zip(weight_MHD, biases, strict=True)])
        return hidden

    def logits(self, hidden: Sequence[Sequence[Tensor]], rows: range, size: tuple[int, int]) -> Iterator[Tensor]:
        """Each member's logits (P, K) for the pixels of `rows` of an image of `size` (H, W)."""
        for member, (w2, b2, w3, b3) in enumerate(self.rest):
            first = upsampled_sums([one[member] for one in hidden], rows, size, self.upsample_mode)
            second = (torch.addmm(b2, h_PH.relu_(), w2.T).relu_() for h_PH in first)
            yield torch.cat([torch.addmm(b3, h_PH, w3.T) for h_PH in second])

    def _fused(self, channels: Sequence[int], sides: Sequence[int], dtype: torch.dtype) -> Callable[..., Votes] | None:
        """The same on a GPU, if its kernel works there: compared with the plain layers on an image of noise."""

        def load() -> Callable[..., Votes]:
            from ddpm_seg.model.kernels.fused_head import FusedHead

            head = FusedHead(self.first_weights, self.first_bias, self.rest, self.groups, self.upsample_mode, dtype)
            return lambda maps, size: Votes(**head(maps, size))

        def agrees(fused: Callable[..., Votes]) -> bool:
            size, generator = (max(sides), max(sides)), torch.Generator().manual_seed(0)
            maps = [torch.randn(1, c, side, side, generator=generator) for c, side in zip(channels, sides, strict=True)]
            maps = [one.to(self.first_bias.device) for one in maps]
            found, hidden = fused(maps, size), self.first_layer([one[0] for one in maps])
            expected = vote(self.logits(hidden, range(size[0]), size), size[1])
            near = (found.probabilities - expected.probabilities).abs().mean() < NEAR
            return bool(near and (found.label == expected.label).float().mean() > SAME)

        return usable("ensemble", load, agrees)

    def _rows_at_once(self, size: tuple[int, int], device: torch.device) -> int:
        """All rows of most images, and of all on a GPU. A CPU takes large ones in strips, to save memory."""
        if device.type != "cpu":
            return size[0]
        return max(1, HIDDEN_BYTES // (4 * self.first_bias.shape[1] * size[1]))


def _linear(x_hwD: Tensor, weight_HD: Tensor, bias_H: Tensor | None) -> Tensor:
    """(h, w, H): the product for each pixel."""
    if x_hwD.is_cuda or x_hwD[..., 0].numel() < CONVOLVED_PIXELS:
        return F.linear(x_hwD, weight_HD, bias_H)
    return F.conv2d(x_hwD[None].permute(0, 3, 1, 2), weight_HD[:, :, None, None], bias_H)[0].permute(1, 2, 0)


def _fold_batch_norms(member: Member, device: torch.device | str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Second and third layers, each with the batch norm before it folded in: (H2, H1), (H2,), (K, H2), (K,)."""
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
