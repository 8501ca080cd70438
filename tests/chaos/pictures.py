"""The input of the disturbed jobs: small pictures, some of them broken, and a network that is fast."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from ddpm_seg import storage
from ddpm_seg.model.bundle.ensemble_bundle import Bundle, save_bundle
from ddpm_seg.model.networks.style.stylegan2 import StyleGAN2Config
from tests.model.networks.style.test_stylegan2 import generator
from tests.model.tiny_networks import members
from tests.tiny_bundle import TASK, tiny_bundle

# Every 61st picture is broken, of few pictures every (count / 5)th, so that error rows go through everything too.
BROKEN_EVERY = 61


def write_pictures(prefix: str, count: int, seed: int) -> None:
    """Writes `count` pictures of 24 x 32 and 32 x 32 pixels, some of them broken."""
    generator, broken_every = np.random.default_rng(seed), min(BROKEN_EVERY, max(2, count // 5))
    for number in range(count):
        data = _picture(generator, height=32 if number % 3 else 24)
        if number % broken_every == 0:
            data = [b"", data[: len(data) // 2], b"<html>404</html>"][number // broken_every % 3]
        storage.write_bytes(storage.join(prefix, f"{number:05d}.png"), data)


def write_model(prefix: str, seed: int = 0, *, gan: bool = False) -> None:
    """Writes a model, a DDPM's or a StyleGAN2's; another seed gives another model_id and other masks."""
    save_bundle(_tiny_gan(seed) if gan else tiny_bundle(seed), prefix)


def _tiny_gan(seed: int) -> Bundle:
    network = StyleGAN2Config(image_size=16, channels=(12, 8, 10), mapping=(6, 9, 7))
    features = network.published_features()
    return Bundle(
        network=network,
        weights=dict(generator(network, seed).state_dict()),
        features=features,
        members=tuple(members(2, TASK.num_classes, sum(features.channels(network)), seed)),
        task=TASK,
    )


def _picture(generator: np.random.Generator, height: int) -> bytes:
    # Few colours, stretched: with noise, an untrained network would give all pictures the same mask.
    small = generator.integers(0, 256, (4, 4, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(small).resize((32, height), Image.Resampling.BICUBIC).save(buffer, format="PNG")
    return buffer.getvalue()
