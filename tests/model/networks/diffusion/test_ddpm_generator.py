from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ddpm_seg.model.diffusion import Diffusion
from ddpm_seg.model.networks.diffusion.ddpm_generator import Generator
from ddpm_seg.model.resident import resident_extractor
from ddpm_seg.model.samples.sample_noise import SampleNoise
from ddpm_seg.model.samples.samplers import sample_ancestral, sample_ddim, sample_dpm_solver
from ddpm_seg.model.samples.sampling import Sampler, SamplingConfig
from tests.tiny_bundle import tiny_bundle

SIZE = 16
BUNDLE = tiny_bundle(size=SIZE)


def generator(batch_size: int = 2, **how: Any) -> Generator:
    config = SamplingConfig(**{"steps": 4, **how})
    return Generator(resident_extractor(BUNDLE, "cpu"), config, batch_size=batch_size)


def sampled(draw: Generator, seed: int, numbers: Sequence[int]) -> list[np.ndarray | None]:
    drawn = list(draw.draw(seed, numbers))
    assert all(one.maps is None for one in drawn)
    return [one.image for one in drawn]


@pytest.mark.parametrize("sampler", ["ddpm", "ddim", "dpm-solver++"])
def test_a_samples_bytes_do_not_depend_on_how_many_are_drawn(sampler: Sampler) -> None:
    draw = generator(sampler=sampler)
    five, one, two = sampled(draw, 3, range(5)), sampled(draw, 3, [4]), sampled(draw, 3, [1, 3])
    images = [image for image in five if image is not None]
    assert [image.shape for image in images] == [(SIZE, SIZE, 3)] * 5
    assert len({image.tobytes() for image in images}) == 5
    assert np.array_equal(images[4], one[0])
    assert np.array_equal(np.stack([images[1], images[3]]), np.stack(two))
    assert not np.array_equal(images[4], sampled(draw, 4, [4])[0])


def test_samples_are_those_of_the_samplers() -> None:
    def drawn(x_0: Tensor) -> np.ndarray:
        return ((x_0 + 1) * 127.5).round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()

    unet = resident_extractor(BUNDLE, "cpu").unet
    for sampler, eta in (("ddpm", 1.0), ("ddim", 1.0), ("ddim", 0.0), ("dpm-solver++", 0.0)):
        draw = generator(sampler=sampler, eta=eta)
        noise = SampleNoise(9, range(2), SIZE)
        diffusion = Diffusion(BUNDLE.ddpm.diffusion, draw.config.timesteps(BUNDLE.ddpm.diffusion))
        with torch.inference_mode():
            if sampler == "ddpm":
                x_0 = sample_ancestral(unet, diffusion, noise(), noise)
            elif sampler == "ddim":
                x_0 = sample_ddim(unet, diffusion, noise(), eta=eta, noise=noise)
            else:
                x_0 = sample_dpm_solver(unet, diffusion, noise())
        found = np.stack([image for image in sampled(draw, 9, range(2)) if image is not None])
        assert np.array_equal(found, drawn(x_0))


def test_each_sampler_asks_the_network_as_often_as_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for sampler in ("ddpm", "ddim", "dpm-solver++"):
        draw = generator(sampler=sampler, steps=6)
        forward, calls = draw.unet.forward, []

        def counting(x: Tensor, t: Tensor) -> Tensor:
            calls.append(int(t[0]))  # noqa: B023  called before the next round
            return forward(x, t)  # noqa: B023

        monkeypatch.setattr(draw.unet, "forward", counting)
        sampled(draw, 0, range(2))
        assert len(calls) == 6
        assert calls == sorted(calls, reverse=True)


def test_output_that_is_not_finite_is_no_image(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = generator(batch_size=3)
    spoilt = torch.zeros(3, 3, SIZE, SIZE)
    spoilt[1, 0, 0, 0] = math.nan
    monkeypatch.setattr(draw, "_run", lambda x_T, noise: spoilt)
    assert [image is None for image in sampled(draw, 0, range(3))] == [False, True, False]


def test_a_full_memory_halves_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    draw, run = generator(batch_size=8), Generator._run

    def little_memory(self: Generator, x_T: Tensor, noise: SampleNoise) -> Tensor:
        if len(x_T) > most:
            raise torch.OutOfMemoryError("so much")
        return run(self, x_T, noise)

    monkeypatch.setattr(Generator, "_run", little_memory)
    most = 2
    images = sampled(draw, 0, range(5))
    assert draw.batch.size == 2
    assert np.array_equal(np.stack(images), np.stack(sampled(generator(batch_size=2), 0, range(5))))
    most = 0
    with pytest.raises(torch.OutOfMemoryError, match="too little memory even for one 16 x 16 sample: so much"):
        sampled(draw, 0, [0])


@pytest.mark.parametrize(
    ("how", "message"), [({"steps": 1}, "at least 2 steps, got 1"), ({"eta": 1.5}, "between 0 and 1, got 1.5")]
)
def test_impossible_sampling_is_refused(how: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SamplingConfig(**how)


def test_more_steps_than_the_schedule_has_are_refused() -> None:
    with pytest.raises(ValueError, match=r"101 timesteps do not fit into 0\.\.99"):
        SamplingConfig(sampler="ddpm", steps=101).timesteps(BUNDLE.ddpm.diffusion)
    assert SamplingConfig(sampler="ddpm", steps=100).timesteps(BUNDLE.ddpm.diffusion) == list(range(100))
