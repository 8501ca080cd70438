"""Networks in Hugging Face diffusers' format: what diffusers writes and computes is the reference."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DDPMPipeline, DDPMScheduler, UNet2DModel

from ddpm_seg.model.bundle.ensemble_bundle import load_bundle, network_digest, read_header, save_bundle
from ddpm_seg.model.diffusion import Diffusion
from ddpm_seg.model.errors import BundleError
from ddpm_seg.model.features import FeatureConfig
from ddpm_seg.model.networks.diffusion.ddpm_extractor import extract
from ddpm_seg.model.published.convert import ConvertConfig, convert
from ddpm_seg.model.resident import resident_extractor
from ddpm_seg.model.samples.samplers import sample_ddim
from jobs import convert as convert_job
from tests.model.published.tiny_diffusers import ARCHITECTURE, pipeline

SCHEDULES: dict[str, dict[str, Any]] = {
    "linear": {},
    "cosine": {"beta_schedule": "squaredcos_cap_v2"},
    "scaled_linear": {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012},
    "v": {"prediction_type": "v_prediction"},
    "sample": {"prediction_type": "sample"},
}


@pytest.fixture(params=SCHEDULES)
def folder(request, tmp_path: Path) -> str:
    return pipeline(tmp_path / "pipeline", **SCHEDULES[request.param])


def test_a_pipeline_that_diffusers_wrote_becomes_a_bundle(folder: str, tmp_path: Path) -> None:
    saved = save_bundle(convert(ConvertConfig(diffusers=folder, output="")), str(tmp_path / "bundle"))
    bundle = load_bundle(str(tmp_path / "bundle"))
    assert read_header(str(tmp_path / "bundle")).model_id == saved.model_id
    assert json.loads((tmp_path / "bundle" / "bundle.json").read_text())["schema_version"] == 2
    assert bundle.network.block_channels == [64, 64, 32]
    assert bundle.network.block_sides == [16, 32, 32]
    alpha_bar = DDPMScheduler.from_pretrained(folder, subfolder="scheduler").alphas_cumprod.numpy()
    np.testing.assert_allclose(Diffusion(bundle.ddpm.diffusion).alpha_bar, alpha_bar, rtol=1e-4)


@torch.no_grad()
def test_features_are_the_outputs_of_the_up_blocks(folder: str) -> None:
    bundle = convert(ConvertConfig(diffusers=folder, output=""))
    reference, outputs = UNet2DModel.from_pretrained(folder, subfolder="unet"), []
    for block in reference.up_blocks:
        block.register_forward_hook(lambda module, args, output: outputs.append(output))
    x_0 = torch.rand(2, 3, 32, 32) * 2 - 1
    diffusion, noise = Diffusion(bundle.ddpm.diffusion), bundle.noise
    for step in (50, 250):
        t_N = torch.full((2,), step)
        reference(diffusion.q_sample(x_0, t_N, noise), t_N)
    features = FeatureConfig(steps=(50, 250), blocks=(0, 2))
    found = extract(resident_extractor(bundle, "cpu").unet, diffusion, x_0, noise, features)
    assert [maps.shape[1] for maps in found] == features.channels(bundle.network)
    assert [maps.shape[2] for maps in found] == features.sides(bundle.network)
    for ours, theirs in zip(found, [outputs[index] for index in (0, 2, 3, 5)], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


@torch.no_grad()
def test_what_nobody_reads_is_not_computed(tmp_path: Path) -> None:
    unet = resident_extractor(convert(ConvertConfig(diffusers=pipeline(tmp_path), output="")), "cpu").unet
    ran = []
    for index, block in enumerate(unet.network.up_blocks):
        block.register_forward_hook(lambda module, args, output, index=index: ran.append(index))
    unet.activations(torch.zeros(1, 3, 32, 32), torch.zeros(1), [0])
    assert ran == [0]


def test_a_pipeline_without_subfolders(tmp_path: Path) -> None:
    """As google/ddpm-church-256 lies on the hub."""
    folder = Path(pipeline(tmp_path / "pipeline"))
    expected = convert(ConvertConfig(diffusers=str(folder), output=""))
    for part in ("unet", "scheduler"):
        for file in (folder / part).iterdir():
            file.rename(folder / file.name)
        (folder / part).rmdir()
    found = convert(ConvertConfig(diffusers=str(folder), output=""))
    assert network_digest(found) == network_digest(expected)


def test_a_bundle_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = str(tmp_path / "bundle")
    save_bundle(convert(ConvertConfig(diffusers=pipeline(tmp_path / "pipeline"), output="")), bundle)
    monkeypatch.delitem(sys.modules, "ddpm_seg.model.networks.diffusion.diffusers_unet")
    monkeypatch.setitem(sys.modules, "diffusers", None)
    assert read_header(bundle).image_size == 32
    with pytest.raises(BundleError, match="pip install 'ddpm_seg"):
        load_bundle(bundle)
    with pytest.raises(ValueError, match="pip install 'ddpm_seg"):
        convert(ConvertConfig(diffusers=str(tmp_path / "pipeline"), output=""))


@torch.no_grad()
def test_samples_are_those_of_diffusers(folder: str) -> None:
    bundle = convert(ConvertConfig(diffusers=folder, output=""))
    reference = UNet2DModel.from_pretrained(folder, subfolder="unet")
    scheduler = DDIMScheduler.from_pretrained(folder, subfolder="scheduler")
    scheduler.set_timesteps(20)
    x_T = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    theirs = x_T
    for timestep in scheduler.timesteps:
        prediction = reference(theirs, timestep).sample
        # As published, and as here: the noise is that of the clipped x_0.
        step = scheduler.step(prediction, timestep, theirs, use_clipped_model_output=True)
        theirs = step.prev_sample
    diffusion = Diffusion(bundle.ddpm.diffusion, sorted(scheduler.timesteps.tolist()))
    ours = sample_ddim(resident_extractor(bundle, "cpu").unet, diffusion, x_T)
    assert float(theirs.abs().max()) > 0.1
    torch.testing.assert_close(ours, theirs, rtol=0, atol=2e-4)


def test_int8_is_refused(tmp_path: Path) -> None:
    bundle = convert(ConvertConfig(diffusers=pipeline(tmp_path), output=""))
    with pytest.raises(ValueError, match="int8 works only for guided-diffusion's UNet"):
        resident_extractor(bundle, "cpu", "int8")


def test_bfloat16_is_close(tmp_path: Path) -> None:
    bundle = convert(ConvertConfig(diffusers=pipeline(tmp_path), output=""))
    images = np.random.default_rng(0).integers(0, 255, (2, 32, 32, 3), dtype=np.uint8)
    features = FeatureConfig(steps=(50,), blocks=(1,))
    with torch.inference_mode():
        exact = resident_extractor(bundle, "cpu")(images, features)[0]
        narrow = resident_extractor(bundle, "cpu", "bfloat16")(images, features)[0]
    assert narrow.dtype == torch.bfloat16
    assert float((narrow.float() - exact).abs().mean() / exact.abs().mean()) < 0.05


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"in_channels": 4, "out_channels": 4}, "expected a network for images with 3 channels"),
        ({"num_class_embeds": 10}, "expected a network without conditions"),
        ({"sample_size": [32, 64]}, "sample_size must be the side of a square"),
        ({"time_embedding_type": "fourier"}, "expected 'positional'"),
        ({"down_block_types": ["SkipDownBlock2D", "DownBlock2D", "DownBlock2D"]}, "SkipDownBlock2D"),
        ({"_class_name": "UNet2DConditionModel"}, "expected an unconditional UNet2DModel"),
    ],
)
def test_another_kind_of_network_is_named(tmp_path: Path, changed: dict[str, Any], message: str) -> None:
    folder = Path(pipeline(tmp_path / "pipeline"))
    file = folder / "unet" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changed))
    with pytest.raises(ValueError, match=message):
        convert(ConvertConfig(diffusers=str(folder), output=""))


@pytest.mark.parametrize(
    ("scheduler", "message"),
    [
        ({"_class_name": "ScoreSdeVeScheduler"}, "is a ScoreSdeVeScheduler without a beta_schedule"),
        ({"beta_schedule": "linear", "rescale_betas_zero_snr": True}, "ends at pure noise"),
        ({"beta_schedule": "linear", "prediction_type": "flow"}, "prediction_type is 'flow'"),
    ],
)
def test_another_kind_of_schedule_is_named(tmp_path: Path, scheduler: dict[str, Any], message: str) -> None:
    folder = Path(pipeline(tmp_path / "pipeline"))
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(scheduler))
    with pytest.raises(ValueError, match=message):
        convert(ConvertConfig(diffusers=str(folder), output=""))


def test_the_job_says_what_is_wrong(tmp_path: Path, capsys) -> None:
    output = ["--output", str(tmp_path / "bundle")]
    for flags, message in (
        (["--diffusers", str(tmp_path / "nothing")], "nothing"),
        (["--diffusers", pipeline(tmp_path / "one"), "--classifiers", "x", "--experiment", "y"], "--classifiers"),
        (["--diffusers", pipeline(tmp_path / "two"), "--mae", "x"], "a bundle holds one network"),
    ):
        assert convert_job.main([*flags, *output]) == 2
        assert message in capsys.readouterr().err
    assert convert_job.main(["--diffusers", pipeline(tmp_path / "good"), *output]) == 0
    assert "a DDPM without classifiers" in capsys.readouterr().out


def test_the_pipeline_is_one_that_diffusers_reads(tmp_path: Path) -> None:
    loaded = DDPMPipeline.from_pretrained(pipeline(tmp_path))
    assert tuple(loaded.unet.config.block_out_channels) == ARCHITECTURE["block_out_channels"]
