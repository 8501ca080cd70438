"""The input of the disturbed jobs: small pictures, some of them broken, and a network that is fast."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from ddpm_seg import storage
from ddpm_seg.model.bundle.ensemble_bundle import Bundle, save_bundle
from ddpm_seg.model.networks.style.stylegan2 import StyleGAN2Config
from tests.model.networks.style.test_stylegan2 import generator
from tests.model.tiny_networks import members
from tests.tiny_bundle import TASK, tiny_bundle

# Every 61st picture is broken, of few pictures every (count / 5)th, so that error rows go through everything too.
BROKEN_EVERY = 61


IN_A_TAR = 24


def write_pictures(prefix: str, count: int, seed: int) -> None:
    """Writes `count` pictures of 24 x 32 and 32 x 32 pixels, some of them broken."""
    for name, data in _pictures(count, seed):
        storage.write_bytes(storage.join(prefix, f"{name}.png"), data)


def write_containers(prefix: str, count: int, seed: int) -> None:
    """Writes the same pictures with captions into tars, and what does not fill one into a Parquet table."""
    pictures = list(_pictures(count, seed))
    for number in range(count // IN_A_TAR):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            for name, data in pictures[number * IN_A_TAR : (number + 1) * IN_A_TAR]:
                for suffix, content in (("png", data), ("json", b"{}")):
                    entry = tarfile.TarInfo(f"{name}.{suffix}")
                    entry.size = len(content)
                    archive.addfile(entry, io.BytesIO(content))
        storage.write_bytes(storage.join(prefix, f"{number:05d}.tar"), buffer.getvalue())
    rest = [{"bytes": data, "path": f"{name}.png"} for name, data in pictures[count // IN_A_TAR * IN_A_TAR :]]
    if rest:
        kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
        sink = pa.BufferOutputStream()
        pq.write_table(pa.table({"image": pa.array(rest, kind)}), sink, row_group_size=5)
        storage.write_bytes(storage.join(prefix, "rest.parquet"), sink.getvalue().to_pybytes())


def _pictures(count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    generator, broken_every = np.random.default_rng(seed), min(BROKEN_EVERY, max(2, count // 5))
    for number in range(count):
        data = _picture(generator, height=32 if number % 3 else 24)
        if number % broken_every == 0:
            data = [b"", data[: len(data) // 2], b"<html>404</html>"][number // broken_every % 3]
        yield f"{number:05d}", data


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
