"""StyleGAN2: equal to the published generators, and to its equations written down sample by sample."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ddpm_seg.data.statistics import most_uncertain_tenth
from ddpm_seg.model.bundle.ensemble_bundle import Bundle, BundleHeader, load_bundle, save_bundle
from ddpm_seg.model.ensemble import Ensemble, member_shapes
from ddpm_seg.model.errors import BundleError
from ddpm_seg.model.features import FeatureConfig
from ddpm_seg.model.networks.pixel_values import from_network
from ddpm_seg.model.networks.style.stylegan2 import StyleGAN2Config
from ddpm_seg.model.networks.style.stylegan2_generator import StyleGAN2
from ddpm_seg.model.published.convert import convert
from ddpm_seg.model.published.convert_config import ConvertConfig
from ddpm_seg.model.published.stylegan2 import load_stylegan2
from ddpm_seg.model.resident import resident_drawer, resident_extractor
from ddpm_seg.model.samples.drawing import Drawn
from ddpm_seg.model.samples.sampling import SamplingConfig
from ddpm_seg.model.trained import resident
from tests.model import gan_weights, golden_weights
from tests.model.recorded_gans import (
    BATCHES,
    CASES,
    GOLDEN,
    assert_equal,
    latents,
    pixels,
    recorded,
    rosinality_checkpoint,
    written,
)
from tests.model.tiny_networks import backbone_bundle

SMALL = StyleGAN2Config(image_size=16, channels=(12, 8, 10), mapping=(6, 9, 7))


def generator(config: StyleGAN2Config, seed: int = 0) -> StyleGAN2:
    """With weights of which none is zero."""
    torch.manual_seed(seed)
    network = config.build().eval().requires_grad_(False)
    for parameter in network.parameters():
        if parameter.ndim < 3:
            parameter += 0.3 * torch.randn_like(parameter)
    network.latent_avg += 0.3 * torch.randn_like(network.latent_avg)
    return network


@pytest.fixture(scope="module", params=[False, True], ids=["zip", "legacy"])
def published(request: Any, tmp_path_factory: pytest.TempPathFactory) -> StyleGAN2:
    path = tmp_path_factory.mktemp("gan") / "stylegan2-ffhq-config-f.pt"
    config, weights, notes = load_stylegan2(written(path, rosinality_checkpoint(), legacy=request.param))
    assert config == StyleGAN2Config(image_size=64, channels=(32, 32, 32, 16, 8), mapping=(48,) * 5)
    assert notes == {}
    return loaded(config, weights)


def loaded(config: StyleGAN2Config, weights: dict[str, Tensor]) -> StyleGAN2:
    network = config.build()
    network.load_state_dict(weights)
    return network.eval().requires_grad_(False)


@pytest.mark.parametrize("own", BATCHES, ids=len)
@torch.inference_mode()
def test_pictures_and_maps_equal_the_published_ones(published: StyleGAN2, own: list[int]) -> None:
    expected, z = recorded("sg2_64"), latents("sg2_64", 48)[own]
    assert_equal(published.style(z), expected["w"][own])
    picture, maps = published(published.codes(z, CASES["sg2_64"]["truncation"]), range(10))
    assert_equal(picture, expected["image"][own])
    for number, found in enumerate(maps):
        assert_equal(found, expected[f"map_{number:02d}"][own])
    assert_equal_bytes(picture, expected["image_uint8_floor"][own])


def assert_equal_bytes(picture: Tensor, expected: np.ndarray) -> None:
    away = np.abs(from_network(picture)[:, ::2, ::2].astype(int) - expected)
    assert away.max() <= 1
    assert (away == 0).mean() >= 0.999


@torch.inference_mode()
def test_codes_of_each_layer_go_to_that_layer(published: StyleGAN2) -> None:
    expected = recorded("sg2_64")
    shift = torch.from_numpy(gan_weights.normal("sg2_64/wplus", (1, 10, 48)))
    picture, (last,) = published(published.latent_avg + 0.5 * shift, [9])
    assert_equal(picture[:, :, ::2, ::2], expected["wplus_image"])
    assert_equal(last[:, :, ::4, ::4], expected["wplus_last"])


@torch.inference_mode()
def test_noise_comes_from_the_file(published: StyleGAN2) -> None:
    network = copy.deepcopy(published)
    for buffer in network.noises.buffers():
        buffer.zero_()
    picture, _ = network(network.codes(latents("sg2_64", 48)[:1], 0.7))
    assert_equal(picture[:, :, ::2, ::2], recorded("sg2_64")["image_without_noise"])


@pytest.mark.parametrize("own", BATCHES, ids=len)
@torch.inference_mode()
def test_features_equal_datasetgans(published: StyleGAN2, own: list[int]) -> None:
    expected = recorded("dgan_64")
    picture, maps = published(published.codes(latents("dgan_64", 48)[own], 0.7), range(10))
    assert sum(one.shape[1] for one in maps) == expected["dim"]
    assert_equal(pixels(maps, 64, expected["pixel_index"]), expected["features"][own])
    assert_equal(pixels(maps, 32, expected["small_pixel_index"]), expected["small_features"][own])
    assert_equal_bytes(picture, expected["image_uint8_floor"][own])


@pytest.mark.parametrize("own", BATCHES, ids=len)
@pytest.mark.parametrize("name", ["nv_32", "tf_32"])
@torch.inference_mode()
def test_nvlabs_pickles_give_what_their_code_gives(name: str, own: list[int]) -> None:
    config, weights, _ = load_stylegan2(str(GOLDEN / f"{name}.pkl"))
    assert config.conv_clamp == CASES[name]["conv_clamp"]
    network, expected = loaded(config, weights), recorded(name)
    picture, maps = network(network.codes(latents(name, 24)[own], CASES[name]["truncation"]), (1, 3, 5, 7))
    assert_equal(picture, expected["image"][own])
    for found, side in zip(maps, (4, 8, 16, 32), strict=True):
        assert_equal(found, expected[f"block_{side:02d}"][own])


# The equations as STYLEGAN2's paper and code have them: each sample with its own kernels, in float64.


def naive(network: StyleGAN2, codes_RW: Tensor) -> tuple[Tensor, list[Tensor]]:
    """The picture and all maps of one sample."""
    w = {key: value.double() for key, value in network.state_dict().items()}
    kernel = torch.tensor([1.0, 3, 3, 1], dtype=torch.float64)
    kernel = kernel[:, None] * kernel / 16

    def modulated(name: str, x: Tensor, row: int, *, up: bool, demodulate: bool) -> Tensor:
        weight, mod = w[f"{name}.weight"][0], w[f"{name}.modulation.weight"]
        style = mod @ codes_RW[row].double() / math.sqrt(mod.shape[1]) + w[f"{name}.modulation.bias"]
        weight = weight / math.sqrt(weight[0].numel()) * style[:, None, None]
        if demodulate:
            weight = weight / (weight.square().sum(dim=(1, 2, 3), keepdim=True) + 1e-8).sqrt()
        if not up:
            return F.conv2d(x, weight, padding=weight.shape[2] // 2)
        x = F.conv_transpose2d(x, weight.transpose(0, 1), stride=2)
        return F.conv2d(F.pad(x, (1, 1, 1, 1)).transpose(0, 1), kernel[None, None]).transpose(0, 1)

    def layer(name: str, x: Tensor, row: int, *, up: bool) -> Tensor:
        x = modulated(f"{name}.conv", x, row, up=up, demodulate=True)
        x = x + w[f"{name}.noise.weight"] * w[f"noises.noise_{row}"] + w[f"{name}.activate.bias"][:, None, None]
        return clamp(F.leaky_relu(x, 0.2) * math.sqrt(2))

    def clamp(x: Tensor) -> Tensor:
        most = network.conv1.clamp
        return x if most is None else x.clamp(-most, most)

    def enlarged(x: Tensor) -> Tensor:
        spread = x.new_zeros(1, 3, 2 * x.shape[2], 2 * x.shape[3])
        spread[:, :, ::2, ::2] = x
        return F.conv2d(F.pad(spread, (2, 1, 2, 1)).transpose(0, 1), kernel[None, None]).transpose(0, 1)

    maps = [w["input.input"]]
    maps.append(layer("conv1", maps[-1], 0, up=False))
    picture = clamp(modulated("to_rgb1.conv", maps[-1], 1, up=False, demodulate=False) + w["to_rgb1.bias"])
    for j in range(network.rows // 2 - 1):
        maps.append(layer(f"convs.{2 * j}", maps[-1], 2 * j + 1, up=True))
        maps.append(layer(f"convs.{2 * j + 1}", maps[-1], 2 * j + 2, up=False))
        rgb = modulated(f"to_rgbs.{j}.conv", maps[-1], 2 * j + 3, up=False, demodulate=False)
        picture = enlarged(picture) + clamp(rgb + w[f"to_rgbs.{j}.bias"])
    return picture, maps


@pytest.mark.parametrize(
    ("channels", "clamp"), [((5,), None), ((12, 8, 10), None), ((7, 3, 6, 2, 4, 3), None), ((8, 8, 4), 0.8)]
)
@pytest.mark.parametrize("count", [1, 3])
@torch.inference_mode()
def test_the_equations_of_any_size(channels: tuple[int, ...], clamp: float | None, count: int) -> None:
    config = StyleGAN2Config(
        image_size=4 * 2 ** (len(channels) - 1), channels=channels, mapping=(6, 9, 7), conv_clamp=clamp
    )
    network = generator(config)
    codes = network.latent_avg + torch.randn(count, network.rows, 7, generator=torch.Generator().manual_seed(1))
    picture, maps = network(codes, range(network.rows))
    for number in range(count):
        expected, expected_maps = naive(network, codes[number])
        assert_equal(picture[number : number + 1], expected.numpy(), 2e-5)
        for found, one in zip(maps, expected_maps, strict=True):
            assert_equal(found[number : number + 1], one.numpy(), 2e-5)


@torch.inference_mode()
def test_truncation_draws_codes_towards_the_mean() -> None:
    network, z = generator(SMALL), torch.randn(3, 6)
    free = network.codes(z, 1.0)
    assert torch.equal(free[:, 0], network.style(z))
    half = network.codes(z, 0.5)
    torch.testing.assert_close(half, (free + network.latent_avg) / 2)
    assert half.shape == (3, 6, 7)


@torch.inference_mode()
def test_a_smaller_picture_is_the_mean_of_pixels() -> None:
    config = StyleGAN2Config(image_size=4, channels=SMALL.channels, mapping=SMALL.mapping)
    small, large = generator(config), generator(SMALL)
    small.load_state_dict(large.state_dict())
    codes = large.codes(torch.randn(2, 6), 0.7)
    expected = large(codes)[0].unflatten(3, (4, 4)).unflatten(2, (4, 4)).mean(dim=(3, 5))
    torch.testing.assert_close(small(codes)[0], expected)
    assert config.published_features().blocks == (0, 1)


@torch.inference_mode()
def test_the_picture_is_the_same_with_or_without_maps() -> None:
    network = generator(SMALL)
    codes = network.codes(torch.randn(2, 6), 0.7)
    assert torch.equal(network(codes)[0], network(codes, (2, 5))[0])
    assert [one.shape for one in network(codes, (5, 0))[1]] == [(2, 12, 4, 4), (2, 10, 16, 16)]


@torch.inference_mode()
def test_layers_after_the_last_map_are_not_computed() -> None:
    network = generator(SMALL)
    network.convs[2] = torch.nn.Module()
    maps = zip(range(4), network.maps(network.codes(torch.randn(2, 6), 0.7)), strict=False)
    assert [one.shape[1:] for _, one in maps] == [(12, 4, 4), (12, 4, 4), (8, 8, 8), (8, 8, 8)]


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 0.3), (torch.float16, 0.03)])
@torch.inference_mode()
def test_half_the_bytes(dtype: torch.dtype, tolerance: float) -> None:
    """Large styles too: float16 has no numbers above 65504."""
    network = generator(SMALL)
    for layer in (network.conv1, *network.convs):
        layer.conv.modulation.bias.fill_(1e5)
    codes = network.codes(torch.randn(3, 6), 0.7)
    expected, (last,) = network(codes, (5,))
    network.cast_convolutions(dtype)
    picture, maps = network(codes, (5,))
    assert maps[0].dtype == dtype
    assert_equal(maps[0].float(), last.numpy(), tolerance)
    assert picture.dtype == torch.float32
    assert picture.isfinite().all()
    assert_equal(picture, expected.numpy(), tolerance)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"image_size": 24}, "expected 16, the side of this generator's images, or that halved"),
        ({"image_size": 32}, "image_size is 32"),
        ({"channels": ()}, "resolutions of the generator"),
        ({"channels": (8,) * 12, "image_size": 4}, "side of the generator's pictures must be at most"),
        ({"channels": (8, 0, 8)}, "channels must be at least 1"),
        ({"mapping": (8,)}, "layers of the mapping network"),
        ({"mapping": (8, 0)}, "mapping must be at least 1"),
        ({"conv_clamp": 0.0}, "conv_clamp"),
    ],
)
def test_impossible_architectures_are_refused(change: dict[str, Any], named: str) -> None:
    values = {"image_size": 16, "channels": (12, 8, 10), "mapping": (6, 9, 7)}
    with pytest.raises(ValueError, match=named):
        StyleGAN2Config(**{**values, **change})


def test_the_published_channels() -> None:
    """config-f reads 5,888 channels at 256 x 256 pixels, and of a generator of 1024 x 1024 pixels 6,080."""
    for side, dim in ((256, 5888), (512, 6016), (1024, 6080)):
        channels = tuple(min(32768 // (4 * 2**level), 512) for level in range(int(math.log2(side)) - 1))
        config = StyleGAN2Config(image_size=side, channels=channels, mapping=(512,) * 9)
        features = config.published_features()
        assert sum(features.channels(config)) == dim
        assert features.blocks == tuple(range(2 * len(channels)))
    small = StyleGAN2Config(image_size=256, channels=channels, mapping=(512,) * 9)
    assert sum(small.published_features().channels(small)) == 5888


# Drawing.


def drawer(config: StyleGAN2Config, truncation: float | None = None, **options: Any) -> Any:
    bundle = Bundle(network=config, weights=dict(generator(config).state_dict()))
    return resident_drawer(bundle, SamplingConfig(truncation=truncation), "cpu", **options)


def drawn(found: Iterable[Drawn]) -> list[tuple[bytes, list[bytes] | None]]:
    return [
        (one.image.tobytes(), None if one.maps is None else [value.numpy().tobytes() for value in one.maps])
        for one in found
        if one.image is not None
    ]


def test_a_sample_is_the_same_whatever_is_drawn_beside_it() -> None:
    """Byte for byte: image and maps."""
    network, features = SMALL, FeatureConfig(steps=(), blocks=(4, 0, 5))
    whole = drawn(drawer(network).draw(3, range(7), features))
    assert len({image for image, _ in whole}) == 7
    some = drawn(drawer(network, batch_size=3).draw(3, [5, 1, 6], features))
    assert some == [whole[5], whole[1], whole[6]]
    alone = drawn(drawer(network).draw(3, [6], features))
    assert alone == [whole[6]]
    bare = drawn(drawer(network).draw(3, [6]))
    assert bare == [(whole[6][0], None)]
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(threads + 2)
        assert drawn(drawer(network).draw(3, range(7), features)) == whole
    finally:
        torch.set_num_threads(threads)
    assert drawn(drawer(network).draw(4, [6])) != bare


@torch.inference_mode()
def test_latents_are_numpys_of_the_samples_own_seed() -> None:
    network = generator(SMALL)
    spread = np.random.default_rng(np.random.SeedSequence(11, spawn_key=(4,))).standard_normal(6, dtype=np.float32)
    picture, maps = network(network.codes(torch.from_numpy(spread)[None], 0.7), (3,))
    (found,) = drawer(SMALL).draw(11, [4], FeatureConfig(steps=(), blocks=(3,)))
    np.testing.assert_array_equal(found.image, from_network(picture)[0])
    assert torch.equal(found.maps[0], maps[0])
    (other,) = drawer(SMALL, 0.4).draw(11, [4])
    assert not np.array_equal(other.image, found.image)


def test_pictures_that_are_not_finite_are_none() -> None:
    config = SMALL
    weights = dict(generator(config).state_dict())
    weights["to_rgb1.bias"] = torch.full((1, 3, 1, 1), 1e38)
    weights["to_rgbs.0.bias"] = torch.full((1, 3, 1, 1), 3e38)
    bundle = Bundle(network=config, weights=weights)
    (found,) = resident_drawer(bundle, SamplingConfig(), "cpu").draw(0, [0])
    assert found.image is None


def test_what_a_stylegan2_does_not_do() -> None:
    bundle = backbone_bundle(SMALL)
    with pytest.raises(BundleError, match=r"that it draws.*ddpm-seg distill"):
        resident_extractor(bundle, "cpu")
    with pytest.raises(BundleError, match=r"that it draws.*ddpm-seg distill"):
        resident(bundle, device="cpu")
    with pytest.raises(ValueError, match="--steps is not for a StyleGAN2"):
        SMALL.drawing(SamplingConfig(steps=50))
    with pytest.raises(ValueError, match="bfloat16 or float16 for a StyleGAN2"):
        SMALL.check_dtype("int8")


def test_a_bundle_keeps_its_truncation(tmp_path: Path) -> None:
    bundle = backbone_bundle(SMALL)
    assert bundle.features is not None
    assert bundle.features.truncation == 0.7
    header = save_bundle(bundle, str(tmp_path / "bundle"))
    assert header.to_json()["features"]["truncation"] == 0.7
    assert header.to_json()["schema_version"] == 3
    again = load_bundle(str(tmp_path / "bundle"))
    assert (again.network, again.features) == (bundle.network, bundle.features)
    content = header.to_json()
    for truncation in (1.5, -0.1, "much", True):
        content["features"]["truncation"] = truncation
        with pytest.raises(ValueError, match=r"features.*truncation"):
            BundleHeader.from_json(content)


@pytest.mark.parametrize("name", ["sg2_64", "nv_32", "tf_32"])
@torch.inference_mode()
def test_converted_bundles_draw_what_the_published_code_draws(tmp_path: Path, name: str) -> None:
    file = str(GOLDEN / f"{name}.pkl")
    if name == "sg2_64":
        file = written(tmp_path / "sg2_64.pt", rosinality_checkpoint())
    bundle = convert(ConvertConfig(output="x", stylegan2=file))
    network = loaded(bundle.network, dict(bundle.weights))
    for count in (1, 2):
        z = latents(name, bundle.network.mapping[0])[:count]
        picture, _ = network(network.codes(z, CASES[name]["truncation"]))
        assert_equal(picture, recorded(name)["image"][:count], 2e-4)


@torch.inference_mode()
def test_votes_equal_datasetgans(published: StyleGAN2) -> None:
    """Masks, uncertainty and probabilities of the ensemble on the maps, at the picture's size."""
    expected, case = recorded("dgan_64"), CASES["dgan_64"]
    _, maps = published(published.codes(latents("dgan_64", 48), 0.7), range(10))
    members = tuple(
        {
            key: torch.from_numpy(golden_weights.tensor(f"dgan_64/mlp{i}/{key}", shape)) if shape else torch.tensor(0)
            for key, shape in member_shapes(case["classes"], int(expected["dim"])).items()
        }
        for i in range(case["members"])
    )
    ensemble = Ensemble(
        members,
        channels=[one.shape[1] for one in maps],
        sides=[one.shape[2] for one in maps],
        upsample_mode="bilinear",
    )
    for index, votes in enumerate(ensemble(maps, (64, 64))):
        assert (votes.label.numpy() == expected["mask"][index]).mean() >= 0.9999
        doubt = most_uncertain_tenth(votes.uncertainty.numpy().ravel())
        assert doubt == pytest.approx(float(expected["uncertainty"][index]), rel=1e-4)
        pixel = torch.from_numpy(expected["pixel_index"])
        assert_equal(votes.probabilities.flatten(1).T[pixel], expected["mean_probability"][index])
        hidden = ensemble.first_layer([one[index] for one in maps])
        first = next(iter(ensemble.logits(hidden, range(64), (64, 64))))
        assert_equal(first[pixel], expected["logits_member0"][index])
    small = [votes.label for votes in ensemble(maps, (32, 32))]
    assert small[0].shape == (32, 32)
