"""Which maps come out, in which order, against the plain network of transcription.py."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from ddpm_seg.benchmark import transcription
from ddpm_seg.model.diffusion import Diffusion, DiffusionConfig
from ddpm_seg.model.features import FeatureConfig
from ddpm_seg.model.networks.diffusion.ddpm import DDPMConfig
from ddpm_seg.model.networks.diffusion.ddpm_extractor import extract
from ddpm_seg.model.networks.diffusion.unet import UNetConfig
from tests.model.tiny_networks import assert_close, drawn_config, network, normal, weights

CONFIG = UNetConfig(image_size=16, num_channels=32, num_res_blocks=1, channel_mult=(1, 2), attention_resolutions=(8,))


@pytest.mark.parametrize(
    ("seed", "batch", "micro_batch", "steps", "schedule"),
    [
        (0, 1, None, 1000, "linear"),
        (1, 2, 1, 250, "cosine"),
        (2, 3, 2, 4000, "linear"),
        (3, 5, 4, 50, "cosine"),
        (4, 2, 100, 50, "linear"),
        (5, 3, 3, 1000, "cosine"),
    ],
)
@torch.inference_mode()
def test_equals_the_plain_extraction(seed: int, batch: int, micro_batch: int | None, steps: int, schedule: Any) -> None:
    unet = drawn_config(seed)
    last = len(unet.block_channels) - 1
    config = FeatureConfig(steps=(steps // 4, 0, steps - 1), blocks=(last, 0, last // 2))
    # Rescaling belongs to the sampler: the published extractor shows the network the schedule's own index.
    diffusion = DiffusionConfig(steps=steps, noise_schedule=schedule, rescale_timesteps=bool(seed % 2))
    x_0 = normal(seed, batch, 3, 2 * unet.stride, 3 * unet.stride).clamp(-1, 1)
    noise = normal(seed + 1, 1, *x_0.shape[1:])

    expected = []
    for step in config.steps:
        x_t = transcription.q_sample(x_0, transcription.alpha_bars(schedule, steps)[step], noise)
        maps, _ = transcription.unet(unet, weights(unet), x_t, torch.full((batch,), step))
        expected += [maps[block] for block in sorted(set(config.blocks))]

    described = DDPMConfig(unet=unet, diffusion=diffusion)
    actual = extract(network(unet), Diffusion(diffusion), x_0, noise, config, micro_batch=micro_batch)
    for map_NCHW, plain in zip(actual, expected, strict=True):
        assert_close(map_NCHW, plain)
    assert [m.shape[1] for m in actual] == config.channels(described)
    assert [m.shape[3] * unet.image_size / x_0.shape[3] for m in actual] == config.sides(described)


@torch.inference_mode()
def test_steps_keep_their_order_and_repeat_while_blocks_do_neither() -> None:
    unet, diffusion, x_0 = network(CONFIG), Diffusion(DiffusionConfig()), normal(0, 2, 3, 16, 16)

    def maps(steps: tuple[int, ...], blocks: tuple[int, ...]) -> list[torch.Tensor]:
        return extract(unet, diffusion, x_0, normal(1, 1, 3, 16, 16), FeatureConfig(steps=steps, blocks=blocks))

    at_9, at_500 = maps((9,), (1, 3)), maps((500,), (1, 3))
    for actual, expected in zip(maps((500, 9, 500), (3, 1, 3)), at_500 + at_9 + at_500, strict=True):
        assert_close(actual, expected, 1e-5)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"steps": ()}, r"\(\)"),
        ({"blocks": ()}, r"\(\)"),
        ({"upsample_mode": "bicubic"}, "'bicubic'"),
        ({"steps": (50, 1000)}, r"0\.\.999, got \(50, 1000\)"),
        ({"steps": (-1,)}, r"0\.\.999, got \(-1,\)"),
        ({"blocks": (0, 4)}, r"0\.\.3, got \(0, 4\)"),
        ({"blocks": (-1,)}, r"0\.\.3, got \(-1,\)"),
    ],
)
def test_impossible_features_are_refused(change: dict[str, Any], named: str) -> None:
    values: dict[str, Any] = {"steps": (50,), "blocks": (1,)} | change
    with pytest.raises(ValueError, match=named):
        FeatureConfig(**values).check(DDPMConfig(unet=CONFIG, diffusion=DiffusionConfig()))
