"""What the disturbed job works on: small pictures, a few of them broken, and a network that segments them at once."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from ddpm_seg import storage
from ddpm_seg.model.bundle.ensemble_bundle import save_bundle
from tests.tiny_bundle import tiny_bundle

# Every so many is broken, of few every fifth part, so that rows with errors go through all that rows without do.
BROKEN_EVERY = 61


def write_pictures(prefix: str, count: int, seed: int) -> None:
    """`count` files, of 24 x 32 and 32 x 32 pixels."""
    generator, broken_every = np.random.default_rng(seed), min(BROKEN_EVERY, max(2, count // 5))
    for number in range(count):
        data = _picture(generator, height=32 if number % 3 else 24)
        if number % broken_every == 0:
            data = [b"", data[: len(data) // 2], b"<html>404</html>"][number // broken_every % 3]
        storage.write_bytes(storage.join(prefix, f"{number:05d}.png"), data)


def write_model(prefix: str, seed: int = 0) -> None:
    """Two seeds are two models, of other model_ids and other masks."""
    save_bundle(tiny_bundle(seed), prefix)


def _picture(generator: np.random.Generator, height: int) -> bytes:
    # Few colours, stretched: noise would make the masks of a network without training all alike.
    small = generator.integers(0, 256, (4, 4, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(small).resize((32, height), Image.Resampling.BICUBIC).save(buffer, format="PNG")
    return buffer.getvalue()
