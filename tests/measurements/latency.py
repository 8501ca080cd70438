"""Measures what a distant store costs one read task: images read and decoded from S3, with and without added time.

    python -m tests.measurements.latency --images 512 --milliseconds 0 50

One task in one process, as a chunk of jobs.label has it, from SeaweedFS through a proxy on this machine, whose own time
is in both. In turn, several times; the median of each. Then the processor time of the same from a local disk, in this
process and the one that decodes.
"""

from __future__ import annotations

import argparse
import io
import os
import pickle
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from ddpm_seg import storage
from ddpm_seg.pipeline.label import fetch_singles
from ddpm_seg.pipeline.label.rows import FittedImage, ImageInput
from ddpm_seg.pipeline.label.stages import fetch_and_decode
from tests.faulty_s3 import faulty_s3
from tests.label_spec import label_spec
from tests.seaweedfs import s3_server
from tests.tiny_bundle import TASK

SPEC = replace(label_spec("out", TASK), image_size=256)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--side", type=int, default=512, help="of the JPEGs, in pixels")
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--readers", type=int, default=fetch_singles.READERS)
    parser.add_argument("--milliseconds", type=float, nargs="+", default=[0.0, 50.0])
    options = parser.parse_args()
    fetch_singles.READERS, fetch_singles.IMAGES_AHEAD = options.readers, 2 * options.readers
    with s3_server() as server, faulty_s3(server.endpoint) as proxy:
        os.environ.update(server.environment() | {"AWS_ENDPOINT_URL": proxy.endpoint})
        sources = prepared(f"s3://{server.bucket}/in", options.images, options.side)
        rates: dict[float, list[float]] = {delay: [] for delay in options.milliseconds}
        rate(sources[:32])  # the decoding process starts, connections open
        for _ in range(options.times):
            for delay, found in rates.items():
                proxy.delay_s = delay / 1000
                found.append(rate(sources))
    for delay, found in rates.items():
        print(f"{delay:g} ms: {statistics.median(found):.0f} images/s ({', '.join(f'{one:.0f}' for one in found)})")

    with tempfile.TemporaryDirectory() as folder:
        sources = prepared(folder, options.images, options.side)
        before = cpu_seconds()
        rate(sources)
        print(f"from a disk: {1000 * (cpu_seconds() - before) / options.images:.1f} ms of processor time per image")


def cpu_seconds() -> float:
    """Of this process and its children."""
    children = [pid for file in Path("/proc/self/task").glob("*/children") for pid in file.read_text().split()]
    stats = [Path("/proc", pid, "stat").read_text().rpartition(")")[2].split() for pid in ("self", *children)]
    return sum(int(stat[11]) + int(stat[12]) for stat in stats) / os.sysconf("SC_CLK_TCK")


def prepared(root: str, images: int, side: int) -> list[ImageInput]:
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (side // 8, side // 8, 3), np.uint8))
    buffer = io.BytesIO()
    picture.resize((side, side)).save(buffer, "JPEG", quality=90)
    sources = []
    for number in range(images):
        uri = f"{root}/{number:06}.jpg"
        storage.write_bytes(uri, buffer.getvalue())
        size = len(buffer.getvalue())
        sources.append(ImageInput(image_id=str(number), uri=uri, read_uri=uri, etag=None, size_bytes=size))
    return sources


def rate(sources: list[ImageInput]) -> float:
    """Images per second of one task."""
    row = {"shard": 0, "chunk": 0, "payload": pickle.dumps(sources)}
    started = time.perf_counter()
    images: list[FittedImage] = pickle.loads(fetch_and_decode(row, SPEC)["payload"])
    assert all(image.canvas is not None for image in images)
    return len(sources) / (time.perf_counter() - started)


if __name__ == "__main__":
    main()
