"""The encoders of e4e and pSp, GAN Encoder and GAN Inversion: equal to the published codes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ddpm_seg.model.bundle.ensemble_bundle import load_bundle, save_bundle
from ddpm_seg.model.device.meta import weight_shapes
from ddpm_seg.model.networks.pixel_values import to_network
from ddpm_seg.model.networks.style.gan_encoder import GANEncoderConfig
from ddpm_seg.model.networks.style.gan_inversion import Codes, GANInversion, GANInversionConfig, StyleEncoder
from ddpm_seg.model.networks.style.stylegan2 import StyleGAN2Config
from ddpm_seg.model.published.convert import convert
from ddpm_seg.model.published.convert_config import ConvertConfig
from ddpm_seg.model.published.style_encoders import load_gan_encoder, load_gan_inversion
from ddpm_seg.model.resident import resident_extractor
from tests.model import gan_weights, golden_weights, recorded_gans
from tests.model.networks.style.test_stylegan2 import naive
from tests.model.recorded_gans import assert_equal, encoder_state, inversion_checkpoint, picture, pixels, recorded
from tests.model.tiny_networks import assert_extractor_keeps_its_word, backbone_bundle

SMALL = GANInversionConfig(image_size=32, codes="e4e", width=16, channels=(6, 5, 4, 3))


def loaded(config: Any, weights: dict[str, torch.Tensor]) -> Any:
    network = config.build()
    network.load_state_dict(weights)
    return network.eval().requires_grad_(False)


def random_network(config: Any) -> Any:
    """With weights and running statistics that are not those of a new one."""
    torch.manual_seed(0)
    network = config.build().eval().requires_grad_(False)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    return network


@pytest.fixture(scope="module", params=[False, True], ids=["zip", "legacy"])
def checkpoint(request: Any, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("gan") / "e4e_ffhq_encode.pt"
    return recorded_gans.written(path, inversion_checkpoint(), legacy=request.param)


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize(("name", "codes"), [("e4e_64", "e4e"), ("psp_64", "psp")])
@torch.inference_mode()
def test_codes_and_maps_equal_the_published_ones(
    name: str, codes: Codes, count: int, legacy: bool, tmp_path: Path
) -> None:
    state, expected = encoder_state(name, f"{name}/encoder"), recorded(name)
    content = {"state_dict": {f"encoder.{key}": value for key, value in state.items()}, "opts": {}}
    encoder = loaded(*load_gan_encoder(recorded_gans.written(tmp_path / "a.pt", content, legacy=legacy), 64))
    others = [picture(other) for other in ("inv_64", "e4e_64")]
    x = to_network(np.concatenate([picture(name), *others])[:count], "cpu")
    maps = dict(zip([*(f"body_{number:02d}" for number in range(24)), "p2", "p1"], encoder.maps(x), strict=True))
    for key in expected.keys() - {"codes"}:
        assert_equal(maps[key][:1], expected[key])
    with_heads = StyleEncoder(16, 10, codes)
    with_heads.load_state_dict(state)
    assert_equal(with_heads.eval()(x, 10)[:1], expected["codes"])


@torch.inference_mode()
def test_gan_inversion_equals_the_published_codes(checkpoint: str) -> None:
    config, weights, notes = load_gan_inversion(checkpoint, 64)
    assert config == GANInversionConfig(image_size=64, codes="e4e", width=16, channels=(32, 32, 32, 16, 8))
    assert notes == {}
    assert not any(".style." in key or "to_rgb" in key or key.endswith("kernel") for key in weights)
    network, expected, x = loaded(config, weights), recorded("inv_64"), to_network(picture("inv_64"), "cpu")
    assert_equal(network.codes(x, 10), expected["codes"])
    features = config.published_features()
    assert sum(features.channels(config)) == expected["dim"]
    assert_equal(pixels(network.activations(x, features.blocks), 64, expected["pixel_index"]), expected["features"])


@torch.inference_mode()
def test_the_reconstruction_equals_the_published_one(checkpoint: str) -> None:
    """The codes are those that the whole generator draws the picture from."""
    config, weights, _ = load_gan_inversion(checkpoint, 64)
    x, decoder = (
        to_network(picture("inv_64"), "cpu"),
        recorded_gans.generator_state("inv_64", "inv_64/decoder", "decoder"),
    )
    whole = StyleGAN2Config(image_size=64, channels=config.channels, mapping=(128, 128, 128)).build()
    kept = {key: value for key, value in decoder.items() if not key.endswith("kernel")}
    whole.load_state_dict({**kept, "latent_avg": torch.zeros(128)})
    assert_equal(whole(loaded(config, weights).codes(x, 10))[0], recorded("inv_64")["reconstruction"])


@torch.inference_mode()
def test_gan_encoder_equals_the_published_codes(checkpoint: str) -> None:
    config, weights = load_gan_encoder(checkpoint, 64)
    assert config == GANEncoderConfig(image_size=64, width=16)
    assert not any(key.startswith(("styles.", "decoder.")) for key in weights)
    network, expected, x = loaded(config, weights), recorded("inv_64"), to_network(picture("inv_64"), "cpu")
    features = config.published_features()
    assert sum(features.channels(config)) == expected["encoder_dim"]
    maps = network.activations(x, features.blocks)
    assert [64 // one.shape[3] for one in maps] == [64 // side for side in features.sides(config)]
    assert_equal(pixels(maps, 64, expected["pixel_index"]), expected["encoder_features"])


@pytest.mark.parametrize("size", [16, 48, 96])
@torch.inference_mode()
def test_pictures_of_other_sizes_and_batches(size: int) -> None:
    config = GANInversionConfig(image_size=size, codes="psp", width=16, channels=(6, 5, 4, 3))
    network, x = random_network(config), torch.rand(3, 3, size, size) * 2 - 1
    together = network.activations(x, range(8))
    assert [one.shape[1] for one in together] == config.block_channels
    assert [one.shape[2] for one in together] == config.block_sides
    for number, one in enumerate(together):
        alone = network.activations(x[1:2], (number,))[0]
        torch.testing.assert_close(alone, one[1:2], rtol=1e-4, atol=1e-5)
    encoder = GANEncoderConfig(image_size=size, width=16)
    maps = random_network(encoder).activations(x, range(26))
    assert [one.shape[1] for one in maps] == encoder.block_channels
    assert [one.shape[2] for one in maps] == encoder.block_sides


@pytest.mark.parametrize(
    ("codes", "size", "width", "channels"),
    [("e4e", 64, 16, (6, 5, 4, 3)), ("psp", 96, 16, (4, 3, 2)), ("e4e", 48, 24, (7,)), ("psp", 16, 16, (4, 3))],
)
@torch.inference_mode()
def test_the_equations_of_any_size(
    tmp_path: Path, codes: Codes, size: int, width: int, channels: tuple[int, ...]
) -> None:
    """Published checkpoints of networks that are not recorded, down to a generator of one resolution."""
    config = GANInversionConfig(image_size=size, codes=codes, width=width, channels=channels)
    generator = StyleGAN2Config(image_size=4, channels=channels, mapping=(8 * width,) * 3)
    encoder = {
        key.removeprefix("encoder."): shape
        for key, shape in weight_shapes(config).items()
        if key.startswith("encoder.")
    }
    state = {key: torch.from_numpy(gan_weights.encoder("other", key, shape)) for key, shape in encoder.items()}
    decoder = {
        key: torch.from_numpy(gan_weights.stylegan2("other", key, shape))
        for key, shape in weight_shapes(generator).items()
        if key != "latent_avg"
    }
    rows = 2 * len(channels)
    mean = torch.from_numpy(gan_weights.normal("other/latent_avg", (rows, 8 * width)))
    whole = {f"encoder.{key}": value for key, value in state.items()}
    whole |= {f"decoder.{key}": value for key, value in decoder.items()}
    kind = "stylegan_size" if codes == "e4e" else "output_size"
    opts = {
        "encoder_type": {"e4e": "Encoder4Editing", "psp": "GradualStyleEncoder"}[codes],
        kind: 2 * 2 ** len(channels),
    }
    path = recorded_gans.written(tmp_path / "a.pt", {"state_dict": whole, "opts": opts, "latent_avg": mean})
    found, weights, _ = load_gan_inversion(path, size)
    assert found == config
    pictures = np.stack([golden_weights.image(seed, size) for seed in range(2)])
    maps, expected_codes = plain_encoder(state, torch.tensor(pictures).permute(0, 3, 1, 2) / 127.5 - 1, rows, codes)
    network, x = loaded(config, weights), config.preprocess(pictures, "cpu")
    assert_equal(network.codes(x, rows), (mean + expected_codes).float().numpy())
    for one, wanted in zip(loaded(*load_gan_encoder(path, size)).maps(x), maps, strict=True):
        assert_equal(one, wanted.numpy())
    drawing = generator.build()
    drawing.load_state_dict({**decoder, "latent_avg": mean[0]})
    _, wanted_maps = naive(drawing, (mean + expected_codes)[-1])
    for one, wanted in zip(network.activations(x, range(rows)), wanted_maps, strict=True):
        assert_equal(one[-1:], wanted.numpy())


def plain_encoder(
    state: dict[str, torch.Tensor], x: torch.Tensor, rows: int, codes: Codes
) -> tuple[list[torch.Tensor], torch.Tensor]:
    """The equations word for word in float64: outputs of the 24 units, p2 and p1, and the codes."""
    s = {key: value.double() for key, value in state.items()}

    def conv(name: str, x: torch.Tensor, stride: int = 1) -> torch.Tensor:
        weight = s[f"{name}.weight"]
        return F.conv2d(x, weight, s.get(f"{name}.bias"), stride=stride, padding=weight.shape[2] // 2)

    def norm(name: str, x: torch.Tensor) -> torch.Tensor:
        mean, variance, scale, shift = (
            s[f"{name}.{key}"][:, None, None] for key in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / (variance + 1e-5).sqrt() * scale + shift

    def prelu(name: str, x: torch.Tensor) -> torch.Tensor:
        return torch.where(x > 0, x, x * s[f"{name}.weight"][:, None, None])

    def unit(name: str, x: torch.Tensor, stride: int) -> torch.Tensor:
        if f"{name}.shortcut_layer.0.weight" in s:
            short = norm(f"{name}.shortcut_layer.1", conv(f"{name}.shortcut_layer.0", x, stride))
        else:
            short = x[:, :, ::stride, ::stride]
        h = prelu(f"{name}.res_layer.2", conv(f"{name}.res_layer.1", norm(f"{name}.res_layer.0", x)))
        h = norm(f"{name}.res_layer.4", conv(f"{name}.res_layer.3", h, stride))
        gate = conv(f"{name}.res_layer.5.fc1", h.mean((2, 3), keepdim=True)).clamp_min(0)
        return short + h * torch.sigmoid(conv(f"{name}.res_layer.5.fc2", gate))

    def enlarged(x: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
        return F.interpolate(x, size=like.shape[2:], mode="bilinear", align_corners=True)

    h = prelu("input_layer.2", norm("input_layer.1", conv("input_layer.0", x.double())))
    maps: list[torch.Tensor] = []
    for number in range(24):
        h = unit(f"body.{number}", h, 2 if number in (0, 3, 7, 21) else 1)
        maps.append(h)
    p2 = enlarged(maps[23], maps[20]) + conv("latlayer1", maps[20])
    p1 = enlarged(p2, maps[6]) + conv("latlayer2", maps[6])
    styles = []
    for row in range(rows):
        h = maps[23] if row < 3 else p2 if row < 7 else p1
        for index in range(4 if row < 3 else 5 if row < 7 else 6):
            h = F.leaky_relu(conv(f"styles.{row}.convs.{2 * index}", h, 2), 0.01)
        h = h[:, :, 0, 0]
        weight = s[f"styles.{row}.linear.weight"] / h.shape[1] ** 0.5
        styles.append(h @ weight.T + s[f"styles.{row}.linear.bias"])
    if codes == "e4e":
        styles = [styles[0], *(styles[0] + style for style in styles[1:])]
    return [*maps, p2, p1], torch.stack(styles, dim=1)


@torch.inference_mode()
def test_what_comes_after_the_last_map_is_not_computed() -> None:
    network, x = random_network(SMALL), torch.zeros(2, 3, 32, 32)
    del network.encoder.styles[4:], network.decoder.convs[3:]
    assert [one.shape for one in network.activations(x, (4, 1))] == [(2, 6, 4, 4), (2, 4, 16, 16)]
    network.encoder.latlayer1 = network.encoder.latlayer2 = nn.Module()  # no code reads the pyramid
    assert [one.shape for one in network.activations(x, (3,))] == [(2, 5, 8, 8)]
    network.encoder.body = nn.Module()
    assert [one.shape for one in network.activations(x, (0,))] == [(2, 6, 4, 4)]
    encoder = random_network(GANEncoderConfig(image_size=32, width=16))
    del encoder.body[3:]
    assert [one.shape for one in encoder.activations(x, (2, 0))] == [(2, 16, 16, 16)] * 2


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@torch.inference_mode()
def test_half_the_bytes(dtype: torch.dtype) -> None:
    network, x = random_network(SMALL), torch.rand(2, 3, 32, 32) * 2 - 1
    expected = network.activations(x, range(8))
    SMALL.cast(network, dtype)
    codes = network.codes(x.to(dtype), 3)
    assert codes.dtype == torch.float32
    for found, one in zip(network.activations(x.to(dtype), range(8)), expected, strict=True):
        assert found.dtype == dtype
        assert (found - one).abs().mean() < 0.05 * one.std()


def test_the_published_network() -> None:
    channels = (512, 512, 512, 512, 512, 256, 128, 64, 32)  # of FFHQ's generator, which draws 1024 x 1024 pixels
    config = GANInversionConfig(image_size=256, codes="e4e", width=64, channels=channels)
    features = config.published_features()
    assert features.blocks == tuple(range(14))  # its maps of up to 256 x 256 pixels
    assert sum(features.channels(config)) == 5888
    encoder = GANEncoderConfig(image_size=256, width=64)
    assert sum(encoder.published_features().channels(encoder)) == 1984
    with torch.device("meta"):
        parameters = sum(value.numel() for value in encoder.build().parameters())
        styles = sum(value.numel() for value in config.build().encoder.styles.parameters())
    assert 30e6 < parameters < 32e6
    assert 235e6 < styles < 237e6


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"image_size": 40}, "multiple of 16, got 40"),
        ({"image_size": 272}, "at most 256 for its style heads, got 272"),
        ({"width": 8}, "width must be at least 16, got 8"),
        ({"codes": "w+"}, "codes must be 'e4e' or 'psp', got 'w\\+'"),
        ({"channels": ()}, "resolutions of the generator"),
    ],
)
def test_impossible_architectures_are_refused(change: dict[str, Any], named: str) -> None:
    values = {"image_size": 64, "codes": "e4e", "width": 16, "channels": (8, 8)}
    with pytest.raises(ValueError, match=named):
        GANInversionConfig(**{**values, **change})


def test_a_gan_encoder_takes_larger_pictures() -> None:
    assert GANEncoderConfig(image_size=512, width=64).block_sides[-2:] == [64, 128]
    with pytest.raises(ValueError, match="multiple of 16, got 100"):
        GANEncoderConfig(image_size=100, width=64)
    assert isinstance(SMALL.build(), GANInversion)


@pytest.mark.parametrize("network", [SMALL, GANEncoderConfig(image_size=32, width=16)], ids=lambda one: one.kind)
def test_blocks_batches_and_order(network: Any) -> None:
    assert_extractor_keeps_its_word(network)


@pytest.mark.parametrize("network", [SMALL, GANEncoderConfig(image_size=32, width=16)], ids=lambda one: one.kind)
def test_a_bundle_holds_the_network(tmp_path: Path, network: Any) -> None:
    header = save_bundle(backbone_bundle(network), str(tmp_path / "bundle"))
    assert header.to_json()["schema_version"] == 3
    again = load_bundle(str(tmp_path / "bundle"))
    assert again.network == network
    assert again.features == network.published_features()


@pytest.mark.parametrize("flag", ["gan_encoder", "gan_inversion"])
@torch.inference_mode()
def test_converted_bundles_give_the_published_features(checkpoint: str, flag: str) -> None:
    bundle = convert(ConvertConfig(output="x", image_size=64, **{flag: checkpoint}))
    expected, features = recorded("inv_64"), bundle.network.published_features()
    extract = resident_extractor(bundle, "cpu")
    images = np.concatenate([picture("inv_64"), picture("e4e_64"), picture("psp_64")])
    for found in (extract(images[:1], features), [one[:1] for one in extract(images, features, micro_batch=2)]):
        key = {"gan_encoder": "encoder_features", "gan_inversion": "features"}[flag]
        assert_equal(pixels(found, 64, expected["pixel_index"]), expected[key])
    assert bundle.provenance["converted"] == {flag: "e4e_ffhq_encode.pt"}


def test_wrong_flags_of_convert(checkpoint: str) -> None:
    for flags, message in [
        ({"gan_encoder": checkpoint, "encoder_type": "e4e"}, "--encoder-type cannot be combined with --gan-encoder"),
        ({"mae": checkpoint}, "is a GAN Encoder checkpoint; use --gan-encoder"),
        ({"mae": checkpoint, "image_size": 64}, "--image-size cannot be combined with --mae"),
        ({"gan_inversion": checkpoint, "image_size": 512}, "at most 256 for its style heads, got 512"),
        ({"gan_encoder": checkpoint, "image_size": 100}, "multiple of 16, got 100"),
    ]:
        with pytest.raises(ValueError, match=message):
            convert(ConvertConfig(output="x", **flags))
    with pytest.raises(ValueError, match="--image-size must be at least 1"):
        ConvertConfig(output="x", gan_encoder=checkpoint, image_size=0)
