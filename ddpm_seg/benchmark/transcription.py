"""The published method written plainly: it runs every block, upsamples every map, and makes a feature row per pixel.

Benchmarks and tests compare with it. It is as slow and needs as much memory as the published code, reads the published
state-dict keys, and shares no code with `ddpm_seg.model` except the description of the architecture. That
`ddpm_seg.model` equals the published code itself is shown in tests/model/test_golden.py.
"""

# Shapes: N images, C channels, H x W pixels, P = H * W, D features per pixel, K classes.

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.distributions import Categorical

from ddpm_seg.model.bundle.ensemble_bundle import Bundle
from ddpm_seg.model.networks.diffusion.unet import UNetConfig

Weights = Mapping[str, Tensor]
Resize = Callable[[Tensor], Tensor]


def unet(config: UNetConfig, weights: Weights, x: Tensor, t_N: Tensor) -> tuple[list[Tensor], Tensor]:
    """The outputs of all decoder blocks, and the output of the network."""
    net = _Layers(config, weights)
    emb = net.time_embedding(t_N)
    levels = len(config.channel_mult)
    attended_strides = [config.image_size // side for side in config.attention_resolutions]
    attends = [2**level in attended_strides for level in range(levels)]
    up_heads = config.num_heads_upsample or config.num_heads

    h = net.convolution("input_blocks.0.0", x)
    encoded = [h]
    for level in range(levels):
        for _ in range(config.num_res_blocks):
            name = f"input_blocks.{len(encoded)}"
            h = net.residual(f"{name}.0", h, emb)
            h = net.attention(f"{name}.1", h, config.num_heads) if attends[level] else h
            encoded.append(h)
        if level < levels - 1:
            name = f"input_blocks.{len(encoded)}.0"
            if config.resblock_updown:
                h = net.residual(name, h, emb, resize=_halve)
            else:
                h = net.convolution(f"{name}.op", h, stride=2)
            encoded.append(h)

    h = net.residual("middle_block.0", h, emb)
    h = net.attention("middle_block.1", h, config.num_heads)
    h = net.residual("middle_block.2", h, emb)

    decoded: list[Tensor] = []
    for level in reversed(range(levels)):
        for index in range(config.num_res_blocks + 1):
            name, layer = f"output_blocks.{len(decoded)}", 1
            h = net.residual(f"{name}.0", torch.cat((h, encoded.pop()), dim=1), emb)
            if attends[level]:
                h, layer = net.attention(f"{name}.1", h, up_heads), 2
            if level > 0 and index == config.num_res_blocks:
                if config.resblock_updown:
                    h = net.residual(f"{name}.{layer}", h, emb, resize=_double)
                else:
                    h = net.convolution(f"{name}.{layer}.conv", _double(h))
            decoded.append(h)
    assert not encoded
    return decoded, net.convolution("out.2", F.silu(net.norm("out.0", h)))


class _Layers:
    """The network's layers as functions of their state-dict prefix."""

    def __init__(self, config: UNetConfig, weights: Weights) -> None:
        self.config, self.weights = config, weights

    def parameters(self, name: str) -> tuple[Tensor, Tensor]:
        return self.weights[f"{name}.weight"], self.weights[f"{name}.bias"]

    def linear(self, name: str, x: Tensor) -> Tensor:
        return F.linear(x, *self.parameters(name))

    def convolution(self, name: str, x: Tensor, stride: int = 1) -> Tensor:
        weight, bias = self.parameters(name)
        return F.conv2d(x, weight, bias, stride=stride, padding=weight.shape[-1] // 2)

    def norm(self, name: str, x: Tensor) -> Tensor:
        weight, bias = self.parameters(name)
        return F.group_norm(x, 32, weight, bias)

    def time_embedding(self, t_N: Tensor) -> Tensor:
        half = self.config.num_channels // 2
        angles = t_N.double()[:, None] * 10000.0 ** (-torch.arange(half, device=t_N.device).double() / half)
        sinusoids = torch.cat((angles.cos(), angles.sin()), dim=1).to(self.weights["time_embed.0.weight"].dtype)
        return self.linear("time_embed.2", F.silu(self.linear("time_embed.0", sinusoids)))

    def residual(self, name: str, x: Tensor, emb: Tensor, resize: Resize = lambda x: x) -> Tensor:
        h = self.convolution(f"{name}.in_layers.2", resize(F.silu(self.norm(f"{name}.in_layers.0", x))))
        x = resize(x)
        condition = self.linear(f"{name}.emb_layers.1", F.silu(emb))[..., None, None]
        if self.config.use_scale_shift_norm:
            c = h.shape[1]
            h = self.norm(f"{name}.out_layers.0", h) * (1 + condition[:, :c]) + condition[:, c:]
        else:
            h = self.norm(f"{name}.out_layers.0", h + condition)
        h = self.convolution(f"{name}.out_layers.3", F.silu(h))
        return h + (self.convolution(f"{name}.skip_connection", x) if x.shape[1] != h.shape[1] else x)

    def attention(self, name: str, x: Tensor, heads: int) -> Tensor:
        """Softmax attention over positions, all heads at once."""
        n, c, height, width = x.shape
        d = self.config.num_head_channels or c // heads
        heads = c // d
        rows = [f"{name}.qkv", f"{name}.proj_out"]
        (qkv_weight, qkv_bias), (out_weight, out_bias) = (self.parameters(row) for row in rows)
        qkv = F.conv1d(self.norm(f"{name}.norm", x).reshape(n, c, -1), qkv_weight, qkv_bias)
        if self.config.use_new_attention_order:  # all queries, all keys, all values
            q, k, v = (part.reshape(n * heads, d, -1) for part in qkv.chunk(3, dim=1))
        else:  # the query, key and value of one head, then those of the next head
            q, k, v = qkv.reshape(n * heads, 3 * d, -1).split(d, dim=1)
        share_NTT = (q.transpose(1, 2) @ k / math.sqrt(d)).softmax(dim=-1)
        attended = (v @ share_NTT.transpose(1, 2)).reshape(n, c, -1)
        return x + F.conv1d(attended, out_weight, out_bias).reshape(n, c, height, width)


def _double(x: Tensor) -> Tensor:
    return x.repeat_interleave(2, dim=-1).repeat_interleave(2, dim=-2)


def _halve(x: Tensor) -> Tensor:
    return (x[..., ::2, ::2] + x[..., 1::2, ::2] + x[..., ::2, 1::2] + x[..., 1::2, 1::2]) / 4


def betas(schedule: str, steps: int) -> list[float]:
    """The noise variance of each step. linear: 1e-4 to 0.02 for 1000 steps, scaled for other numbers. cosine: from the
    ratios of a squared cosine, at most 0.999."""
    if schedule == "linear":
        first, last = 0.0001 * 1000 / steps, 0.02 * 1000 / steps
        return [first + (last - first) * i / (steps - 1) for i in range(steps)]

    def alpha_bar(i: int) -> float:
        return math.cos((i / steps + 0.008) / 1.008 * math.pi / 2) ** 2

    return [min(0.999, 1 - alpha_bar(i + 1) / alpha_bar(i)) for i in range(steps)]


def alpha_bars(schedule: str, steps: int) -> NDArray[np.float64]:
    """The running product of 1 - beta."""
    products, product = [], 1.0
    for beta in betas(schedule, steps):
        product *= 1 - beta
        products.append(product)
    return np.array(products)


def q_sample(x_0: Tensor, alpha_bar: float, noise: Tensor) -> Tensor:
    return math.sqrt(alpha_bar) * x_0 + math.sqrt(1 - alpha_bar) * noise


def on_device(bundle: Bundle, device: torch.device) -> Bundle:
    """`bundle` with all its tensors on `device`, in float32, for `segment`."""

    def there(tensors: Weights) -> Weights:
        return {key: value.to(device, torch.float32) for key, value in tensors.items()}

    assert bundle.noise is not None
    members = tuple(there(member) for member in bundle.members)
    return replace(bundle, weights=there(bundle.weights), noise=bundle.noise.to(device), members=members)


def segment(bundle: Bundle, x_0: Tensor) -> Tensor:
    """Labels (P,), on the CPU, that a bundle's network and ensemble give an image `x_0` (1, 3, H, W) in [-1, 1].

    The bundle is from `on_device`, and `x_0` on that device.
    """
    assert bundle.features is not None
    assert bundle.noise is not None
    assert isinstance(bundle.ddpm.unet, UNetConfig)  # as benchmark_model checks
    bars = alpha_bars(bundle.ddpm.diffusion.noise_schedule, bundle.ddpm.diffusion.steps)
    maps: list[Tensor] = []
    for step in bundle.features.steps:
        x_t = q_sample(x_0, bars[step], bundle.noise)
        decoded, _ = unet(bundle.ddpm.unet, bundle.weights, x_t, torch.tensor([step], device=x_0.device))
        maps += [decoded[block][0] for block in sorted(set(bundle.features.blocks))]
    features_PD = pixel_features(maps, x_0.shape[2:], bundle.features.upsample_mode)
    del maps, decoded
    return ensemble(torch.stack([classifier(member)(features_PD) for member in bundle.members]))[0]


def pixel_features(maps: Sequence[Tensor], size: Sequence[int], mode: str) -> Tensor:
    """Features (P, D) of one image with `maps` (C_i, h_i, w_i), upsampled to `size` (H, W)."""
    upsampled = [F.interpolate(map_Chw[None], size=tuple(size), mode=mode)[0] for map_Chw in maps]
    return torch.cat(upsampled).flatten(1).T


def classifier(member: Weights) -> nn.Sequential:
    """A pixel classifier with the published layers and `member`'s weights, on their device, in evaluation mode."""
    (h1, dim), (h2, _), (classes, _) = (member[f"layers.{index}.weight"].shape for index in (0, 3, 6))
    with member["layers.0.weight"].device:
        layers = nn.Sequential(
            nn.Linear(dim, h1), nn.ReLU(), nn.BatchNorm1d(h1), nn.Linear(h1, h2), nn.ReLU(), nn.BatchNorm1d(h2),
            nn.Linear(h2, classes),
        )  # fmt: skip
    layers.load_state_dict({key.removeprefix("layers."): value for key, value in member.items()})
    return layers.eval().requires_grad_(False)


def ensemble(logits_MPK: Tensor) -> tuple[Tensor, Tensor, Tensor, float]:
    """Labels (P,) on the CPU, Jensen-Shannon divergence (P,), mean softmax (P, K) and the image's uncertainty, from the
    members' logits (M, P, K)."""
    label_P = logits_MPK.argmax(dim=-1).cpu().mode(dim=0).values  # as published; on a GPU, `mode` breaks ties otherwise
    mean_PK = logits_MPK.softmax(dim=-1).mean(dim=0)
    js_P = Categorical(probs=mean_PK).entropy() - Categorical(logits=logits_MPK).entropy().mean(dim=0)
    most_uncertain = js_P.sort().values[-int(len(js_P) / 10) :]
    return label_P, js_P, mean_PK, float(most_uncertain.mean())
