"""The first StyleGAN: equal to the one in DatasetGAN's code, and drawn as any other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ddpm_seg.model.bundle.ensemble_bundle import Bundle, load_bundle, save_bundle
from ddpm_seg.model.device.meta import weight_shapes
from ddpm_seg.model.features import FeatureConfig
from ddpm_seg.model.networks.pixel_values import from_network
from ddpm_seg.model.networks.style.stylegan import StyleGANConfig
from ddpm_seg.model.networks.style.stylegan_generator import truncated_rows
from ddpm_seg.model.published.convert import convert
from ddpm_seg.model.published.convert_config import ConvertConfig
from ddpm_seg.model.published.stylegan import load_stylegan
from ddpm_seg.model.resident import resident_drawer
from ddpm_seg.model.samples.sampling import SamplingConfig
from tests.model import gan_weights
from tests.model.recorded_gans import BATCHES, CASES, GOLDEN, assert_equal, latents, recorded, written
from tests.model.tiny_networks import backbone_bundle

NAME = "sg1_128"
TOLERANCE = 5e-4  # instance norms enlarge rounding
SMALL = StyleGANConfig(image_size=16, channels=(12, 8, 10), mapping=(6, 9, 7))


def state() -> dict[str, Tensor]:
    shapes = json.loads((GOLDEN / f"{NAME}.g_all_shapes.json").read_text())
    return {
        key: torch.from_numpy(np.asarray(gan_weights.stylegan1(NAME, key, tuple(shape))))
        for key, shape in shapes.items()
    }


def noises() -> dict[str, Tensor]:
    shapes = [(f"noise_{number}", (1, 1, 4 * 2 ** (number // 2), 4 * 2 ** (number // 2))) for number in range(12)]
    return {f"noises.{name}": torch.from_numpy(gan_weights.stylegan1(NAME, name, shape)) for name, shape in shapes}


@pytest.fixture(scope="module", params=[False, True], ids=["zip", "legacy"])
def files(request: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A checkpoint and a mean code as DatasetGAN has them."""
    folder = tmp_path_factory.mktemp("stylegan")
    np.save(folder / "avg_latent_stylegan1.npy", gan_weights.stylegan1(NAME, "avg_latent", (18, 512)))
    checkpoint = written(folder / "karras2019stylegan.for_g_all.pt", state(), legacy=request.param)
    return checkpoint, str(folder / "avg_latent_stylegan1.npy")


@torch.inference_mode()
def test_pictures_and_maps_equal_datasetgans(files: tuple[str, str]) -> None:
    config, weights, notes = load_stylegan(*files)
    assert config == StyleGANConfig(image_size=128, channels=(16, 16, 16, 16, 8, 4), mapping=(512,) * 9)
    assert notes == {"noise": "drawn from seed 0"}  # the published code draws them anew in every pass
    network, expected = config.build().eval(), recorded(NAME)
    network.load_state_dict({**weights, **noises()})
    z = latents(NAME, 512)
    assert_equal(network.g_mapping(z), expected["w"], TOLERANCE)
    codes = network.codes(z, CASES[NAME]["truncation"])
    sampled = expected["codes_sampled"][:, :4]  # every third of 18 rows, of which this generator reads 12
    assert_equal(codes[:, ::3, ::8], sampled, TOLERANCE)
    for own in BATCHES:
        picture, maps = network(network.codes(z[own], CASES[NAME]["truncation"]), range(12))
        assert_equal(picture, expected["image"][own], TOLERANCE)
        for number, found in enumerate(maps):
            step = 4 if found.shape[2] > 64 else 1
            assert_equal(found[:, :, ::step, ::step], expected[f"map_{number:02d}"][own], TOLERANCE)
    assert sum(config.published_features().channels(config)) == expected["dim"]
    picture, _ = network(network.codes(z, CASES[NAME]["truncation"]))
    away = np.abs(from_network(picture)[:, ::2, ::2].astype(int) - expected["image_uint8_floor"])
    assert away.max() <= 1
    assert (away == 0).mean() >= 0.999


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize(
    ("channels", "mapping"), [((5,), (3, 4)), ((6, 4, 7, 3), (5, 9, 8)), ((4, 6, 3, 5, 2, 3), (6,) * 9)]
)
@torch.inference_mode()
def test_the_equations_of_any_size(
    tmp_path: Path, channels: tuple[int, ...], mapping: tuple[int, ...], count: int
) -> None:
    side = 4 * 2 ** (len(channels) - 1)
    config = StyleGANConfig(image_size=side, channels=channels, mapping=mapping)
    shapes = {key: shape for key, shape in weight_shapes(config).items() if key.startswith("g_")}
    content = {key: torch.from_numpy(gan_weights.stylegan1("other", key, shape)) for key, shape in shapes.items()}
    np.save(tmp_path / "mean.npy", gan_weights.stylegan1("other", "avg_latent", (18, mapping[-1])))
    found, weights, _ = load_stylegan(written(tmp_path / "a.pt", content), str(tmp_path / "mean.npy"))
    assert found == config
    network = config.build()
    network.load_state_dict(weights)
    z = torch.from_numpy(gan_weights.normal("other/z", (count, mapping[0])))
    picture, maps = network(network.codes(z, 0.6), range(2 * len(channels)))
    expected, expected_maps = plain_stylegan(weights, z, 0.6, len(mapping) - 1)
    assert_equal(picture, expected.numpy(), TOLERANCE)
    for one, wanted in zip(maps, expected_maps, strict=True):
        assert_equal(one, wanted.numpy(), TOLERANCE)


def plain_stylegan(
    weights: dict[str, Tensor], z: Tensor, truncation: float, layers: int
) -> tuple[Tensor, list[Tensor]]:
    """The equations word for word in float64; the picture and all maps."""
    w = {key: value.double() for key, value in weights.items()}
    taps = torch.tensor([1.0, 2, 1], dtype=torch.float64)
    blur = (taps[:, None] * taps / 16)[None, None]

    def linear(name: str, x: Tensor, gain: float, rate: float) -> Tensor:
        weight = w[f"{name}.weight"] * (gain * rate / x.shape[1] ** 0.5)
        return x @ weight.T + w[f"{name}.bias"] * rate

    def kernel(name: str, gain: float = 2**0.5) -> Tensor:
        weight = w[f"{name}.weight"]
        return weight * (gain / weight[0].numel() ** 0.5)

    def added(name: str) -> Tensor:
        return w[f"{name}.bias"][:, None, None]

    def enlarged(name: str, x: Tensor) -> Tensor:
        if x.shape[2] >= 64:
            wide = F.pad(kernel(name), (1, 1, 1, 1))
            wide = wide[:, :, 1:, 1:] + wide[:, :, :-1, 1:] + wide[:, :, 1:, :-1] + wide[:, :, :-1, :-1]
            x = F.conv_transpose2d(x, wide.transpose(0, 1), stride=2, padding=1)
        else:
            x = F.conv2d(x.repeat_interleave(2, 2).repeat_interleave(2, 3), kernel(name), padding=1)
        return F.conv2d(x.flatten(0, 1)[:, None], blur, padding=1).view_as(x) + added(name)

    def epilogue(name: str, x: Tensor, row: int) -> Tensor:
        x = F.leaky_relu(x + w[f"{name}.top_epi.noise.weight"][:, None, None] * w[f"noises.noise_{row}"], 0.2)
        x = (x - x.mean((2, 3), keepdim=True)) / (x.var((2, 3), correction=0, keepdim=True) + 1e-5).sqrt()
        scale, shift = linear(f"{name}.style_mod.lin", codes[:, row], 1, 1)[:, :, None, None].chunk(2, dim=1)
        return x * (scale + 1) + shift

    code = z.double() * (z.double().square().mean(1, keepdim=True) + 1e-8).rsqrt()
    for index in range(layers):
        code = F.leaky_relu(linear(f"g_mapping.dense{index}", code, 2**0.5, 0.01), 0.2)
    mean = w["avg_latent"]
    codes = code[:, None].repeat(1, len(mean), 1)
    codes[:, :7] = (mean + truncation * (codes - mean))[:, :7]
    maps: list[Tensor] = []
    for level in range(len(mean) // 2):
        block = f"g_synthesis.blocks.{4 * 2**level}x{4 * 2**level}"
        if level == 0:
            x, second = (w[f"{block}.const"] + added(block)).repeat(len(z), 1, 1, 1), f"{block}.conv"
        else:
            x, second = enlarged(f"{block}.conv0_up", maps[-2]), f"{block}.conv1"
        raw = F.conv2d(epilogue(f"{block}.epi1", x, 2 * level), kernel(second), padding=1) + added(second)
        maps += [epilogue(f"{block}.epi2", raw, 2 * level + 1), raw]
    picture = F.conv2d(maps[-2], kernel("g_synthesis.torgb", 1)) + added("g_synthesis.torgb")
    return picture, maps


def test_the_mean_code_is_taken_of_many_without_its_file(files: tuple[str, str]) -> None:
    config, weights, notes = load_stylegan(files[0])
    assert notes["avg_latent"] == "mean over 10000 latents of seed 0"
    network = config.build()
    network.load_state_dict(weights)
    with torch.inference_mode():
        codes = network.g_mapping(torch.randn(20_000, 512, generator=torch.Generator().manual_seed(1)))
    assert (weights["avg_latent"] - codes.mean(dim=0)).abs().max() < 0.05 * codes.std()


@torch.inference_mode()
def test_coarse_layers_alone_are_truncated() -> None:
    network = SMALL.build()
    assert [truncated_rows(side) for side in (128, 256, 512, 1024)] == [7, 7, 8, 8]
    large = StyleGANConfig(image_size=128, channels=(4,) * 6, mapping=(6, 7)).build()
    large.avg_latent.normal_()
    z = torch.randn(2, 6)
    free, drawn = large.codes(z, 1.0), large.codes(z, 0.5)
    torch.testing.assert_close(drawn[:, :7], (free[:, :7] + large.avg_latent[:7]) / 2)
    assert torch.equal(drawn[:, 7:], free[:, 7:])
    assert network.codes(z, 0.5).shape == (2, 6, 7)


def test_a_converted_bundle_draws(files: tuple[str, str], tmp_path: Path) -> None:
    bundle = convert(ConvertConfig(output="x", stylegan=files[0], avg_latent=files[1], image_size=32))
    save_bundle(bundle, str(tmp_path / "bundle"))
    again = load_bundle(str(tmp_path / "bundle"))
    assert again.network == bundle.network
    features = FeatureConfig(steps=(), blocks=(1, 4))
    drawn = list(resident_drawer(again, SamplingConfig(), "cpu").draw(3, range(3), features))
    (alone,) = resident_drawer(again, SamplingConfig(), "cpu", batch_size=5).draw(3, [2], features)
    assert drawn[0].image is not None
    assert drawn[0].image.shape == (32, 32, 3)
    assert np.array_equal(alone.image, drawn[2].image)
    assert all(map(torch.equal, alone.maps, drawn[2].maps))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_the_bytes(dtype: Any) -> None:
    bundle = backbone_bundle(SMALL)
    assert isinstance(bundle, Bundle)
    whole, half = (
        next(resident_drawer(bundle, SamplingConfig(), "cpu", kind).draw(0, [0])).image for kind in ("float32", dtype)
    )
    assert np.abs(whole.astype(int) - half).mean() < 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"g_synthesis.blocks.8x8.conv0_up.intermediate.kernel": torch.ones(1, 1, 3, 3)}, "another filter than"),
        ({"g_synthesis.blocks.8x8.conv1.bias": None}, r"it lacks g_synthesis\.blocks\.8x8\.conv1\.bias"),
        ({"g_synthesis.blocks.16x16.epi1.top_epi.noise.weight": None}, r"expected g_synthesis\.blocks\.4x4"),
        ({"more": torch.zeros(3)}, "it has more, which the network lacks"),
        ({"g_mapping.dense0.weight": torch.zeros(3)}, r"expected g_mapping\.dense0"),
    ],
)
def test_what_is_no_stylegan_is_said_so(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    content = {key: value for key, value in {**state(), **change}.items() if value is not None}
    with pytest.raises(ValueError, match=rf"a\.pt.*({message})"):
        load_stylegan(written(tmp_path / "a.pt", content))


def test_a_mean_code_of_another_network_is_refused(files: tuple[str, str], tmp_path: Path) -> None:
    for content, message in [
        (np.zeros((3, 512), np.float32), r"it is \(3, 512\); expected at least 12 rows of 512"),
        (np.zeros((18, 48), np.float32), r"it is \(18, 48\)"),
        (np.array([None]), r"not a \.npy file of numbers"),
        (np.zeros(512), "expected an array of floats"),
    ]:
        np.save(tmp_path / "mean.npy", content, allow_pickle=True)
        with pytest.raises(ValueError, match=rf"mean\.npy.*{message}"):
            load_stylegan(files[0], str(tmp_path / "mean.npy"))
