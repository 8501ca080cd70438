"""The ensemble on a GPU: the first layer of all members as one product, everything after it in one kernel."""

# Shapes: M members, H1 hidden units, C channels of a map, D of all maps of one resolution, h x w their resolution.

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ddpm_seg.model.kernels.pixel_votes import pixel_votes

Rest = Sequence[tuple[Tensor, Tensor, Tensor, Tensor]]
"""For each member, weights and biases of the second and third layers: (H2, H1), (H2,), (K, H2), (K,)."""


class FusedHead:
    """All members' layers; their products are taken in one type and added in float32. float32 means TF32 where the
    convolutions may use it (`torch.backends.cudnn.allow_tf32`)."""

    def __init__(
        self,
        first_weights: Sequence[Tensor],
        first_bias_MH: Tensor,
        rest: Rest,
        groups: Sequence[Sequence[int]],
        mode: str,
        dtype: torch.dtype,
    ) -> None:
        """`first_weights`: (M, H1, D) per resolution; `groups`: the maps of each; `mode`: see F.interpolate; `dtype`:
        the products' type."""
        self.first_bias_MH, self.groups, self.mode, self.dtype = first_bias_MH, groups, mode, dtype
        self.first_weights = [weight_MHD.flatten(0, 1)[:, :, None, None].to(dtype) for weight_MHD in first_weights]
        w2, b2, w3, b3 = (torch.stack(one) for one in zip(*rest, strict=True))
        self.second, self.third = (w2.mT.to(dtype).contiguous(), b2), (w3.mT.to(dtype).contiguous(), b3)

    def __call__(self, maps_1Chw: Sequence[Tensor], size: tuple[int, int]) -> dict[str, Tensor]:
        """The votes for one image at `size` (H, W) from its maps, by the names of `Votes`."""
        products = []
        for weight, group in zip(self.first_weights, self.groups, strict=True):
            features = torch.cat([maps_1Chw[i] for i in group], dim=1).to(self.dtype)
            # A 1 x 1 convolution of channels-last maps is the product of each pixel's features with all weights.
            product = F.conv2d(features.contiguous(memory_format=torch.channels_last), weight)
            products.append(product.permute(0, 2, 3, 1)[0].unflatten(-1, self.first_bias_MH.shape).contiguous())
        label, uncertainty, confidence, mean_KP = pixel_votes(
            products, self.first_bias_MH, self.second, self.third, size,
            nearest=self.mode == "nearest", precise=not torch.backends.cudnn.allow_tf32,
        )  # fmt: skip
        return {
            "label": label.view(size),
            "uncertainty": uncertainty.view(size),
            "confidence": confidence.view(size),
            "probabilities": mean_KP.unflatten(1, size),
        }
