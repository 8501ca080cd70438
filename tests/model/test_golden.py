"""Equality with outputs of the published code (openai/guided-diffusion, yandex-research/ddpm-segmentation)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ddpm_seg.data.statistics import most_uncertain_tenth
from ddpm_seg.model.diffusion import Diffusion, DiffusionConfig
from ddpm_seg.model.ensemble import Ensemble, member_shapes
from ddpm_seg.model.features import FeatureConfig
from ddpm_seg.model.networks.diffusion.ddpm import DDPMConfig
from ddpm_seg.model.networks.diffusion.ddpm_extractor import extract
from ddpm_seg.model.networks.diffusion.unet import UNet, UNetConfig
from ddpm_seg.model.networks.pixel_values import to_network
from ddpm_seg.model.samples.samplers import sample_ddim
from ddpm_seg.model.voting import Votes, vote
from tests.model import golden_weights

GOLDEN = Path(__file__).parent / "golden"
CASES = json.loads((GOLDEN / "cases.json").read_text())
CHANNEL_MULT = {256: (1, 1, 2, 2, 4, 4), 128: (1, 1, 2, 3, 4), 64: (1, 2, 3, 4)}


class Case:
    """A golden case's network, inputs and recorded outputs."""

    def __init__(self, name: str) -> None:
        case = CASES[name]
        flags = dict(case["model"])
        self.expected = np.load(GOLDEN / f"{name}.npz")
        self.respacing = case.get("ddim")
        self.diffusion_config = DiffusionConfig(noise_schedule=flags.pop("noise_schedule"))
        flags["attention_resolutions"] = tuple(map(int, flags["attention_resolutions"].split(",")))
        self.size: int = flags["image_size"]
        unet = UNetConfig(channel_mult=CHANNEL_MULT[self.size], **flags)
        network, self.unet = DDPMConfig(unet=unet, diffusion=self.diffusion_config), UNet(unet)
        shapes = json.loads((GOLDEN / f"{name}.unet_shapes.json").read_text())
        self.unet.load_state_dict({k: _tensor(f"{name}/unet/{k}", shape) for k, shape in shapes.items()})
        self.unet.eval().requires_grad_(False)
        self.features = FeatureConfig(
            steps=tuple(case["steps"]), blocks=tuple(case["blocks"]), upsample_mode=case["upsample_mode"]
        )
        channels = self.features.channels(network)
        self.members = [
            {
                key: _tensor(f"{name}/mlp{index}/{key}", shape) if shape else torch.tensor(0)
                for key, shape in member_shapes(case["classes"], sum(channels)).items()
            }
            for index in range(case["members"])
        ]
        self.ensemble = Ensemble(
            self.members,
            channels=channels,
            sides=self.features.sides(network),
            upsample_mode=case["upsample_mode"],
        )
        self.x_0 = to_network(golden_weights.image(case["image_seed"], self.size)[None], "cpu")
        self.noise = torch.from_numpy(golden_weights.noise(case["noise_seed"], (1, 3, self.size, self.size)))
        self.diffusion = Diffusion(self.diffusion_config)
        self.maps = extract(self.unet, self.diffusion, self.x_0, self.noise, self.features, micro_batch=1)

    def votes(self) -> Votes:
        return next(self.ensemble(self.maps, (self.size, self.size)))

    def pixels(self, image: torch.Tensor, count: int = 64) -> np.ndarray:
        return image.flatten(-2)[..., self.expected["pixel_index"][:count]].numpy().T


@pytest.fixture(scope="module", params=sorted(CASES))
def case(request: Any) -> Case:
    return Case(request.param)


def test_features_equal_the_published_ones(case: Case) -> None:
    channels = [shape[0] if len(shape) == 3 else shape[1] for shape in case.expected["block_shapes"]]
    assert [m.shape[1] for m in case.maps] == channels
    assert sum(m.shape[1] for m in case.maps) == case.expected["dim"]
    upsampled = [
        torch.nn.functional.interpolate(m, size=(case.size, case.size), mode=case.features.upsample_mode)[0]
        for m in case.maps
    ]
    _assert_close(case.pixels(torch.cat(upsampled), 8), case.expected["features"])


def test_mask_uncertainty_and_probabilities_equal_the_published_ones(case: Case) -> None:
    votes = case.votes()
    assert (votes.label.numpy() == case.expected["mask"]).mean() >= 0.9999
    uncertainty = most_uncertain_tenth(votes.uncertainty.numpy().ravel())
    assert uncertainty == pytest.approx(float(case.expected["uncertainty"]), rel=1e-5)
    _assert_close(case.pixels(votes.probabilities), case.expected["mean_probability"])


def test_member_logits_equal_the_published_ones(case: Case) -> None:
    hidden = case.ensemble.first_layer([m[0] for m in case.maps])
    first = next(case.ensemble.logits(hidden, range(case.size), (case.size, case.size)))
    _assert_close(first.numpy()[case.expected["pixel_index"]], case.expected["logits_member0"])


def test_the_last_step_of_the_network_equals_the_published_one(case: Case) -> None:
    for index, step in enumerate(case.features.steps):
        t_N = torch.tensor([step])
        x_t = case.diffusion.q_sample(case.x_0, t_N, case.noise)
        _assert_close(case.unet(x_t, t_N)[0, :, :8, :8].numpy(), case.expected["eps"][index])
    step_out = case.diffusion.p_mean_variance(case.unet, x_t, t_N)
    for name in ("mean", "variance", "log_variance", "pred_xstart"):
        _assert_close(getattr(step_out, name)[0, :, :8, :8].numpy(), case.expected[f"p_{name}"])


def test_ddim_samples_equal_the_published_ones(case: Case) -> None:
    if case.respacing is None:
        pytest.skip("this case has no sample")
    # guided-diffusion's "ddimN": the integer stride that gives so many timesteps from 0 on.
    steps, count = case.diffusion_config.steps, int(case.respacing.removeprefix("ddim"))
    respaced = Diffusion(case.diffusion_config, range(0, steps, steps // count))
    assert len(respaced.timesteps) == count
    _assert_close(sample_ddim(case.unet, respaced, case.noise)[0].numpy(), case.expected["ddim"])


def test_votes_of_identical_members_have_no_uncertainty() -> None:
    logits = torch.randn(5, 12, generator=torch.Generator().manual_seed(0))
    votes = vote([logits.T] * 4, 4)
    assert votes.uncertainty.max() < 1e-6
    assert torch.equal(votes.label.flatten().long(), logits.argmax(0))


def _tensor(name: str, shape: tuple[int, ...] | list[int]) -> torch.Tensor:
    return torch.from_numpy(golden_weights.tensor(name, tuple(shape)))


def _assert_close(actual: np.ndarray, expected: np.ndarray) -> None:
    """Within 1e-4 of the expected array's scale."""
    assert actual.shape == expected.shape
    assert np.abs(actual - expected).max() <= 1e-4 * np.abs(expected).max()
