"""How fast images are read from a local tar and decoded, beside a plain loop of tarfile and Pillow, in one run.

    python -m tests.measurements.tar_rate --images 2000

Both are told in images per second of processor time, that of the decoding processes too, and by the clock.
"""

from __future__ import annotations

import argparse
import io
import os
import pickle
import tarfile
import tempfile
import time
from collections.abc import Callable
from datetime import datetime, timezone
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from ddpm_seg.data.inputs import sources
from ddpm_seg.data.inputs.container import UNCHOSEN
from ddpm_seg.data.inputs.members import Place, look_into, read_places
from ddpm_seg.pipeline.label.rows import ImageInput, LabelSpec
from ddpm_seg.pipeline.label.stages import fetch_and_decode
from ddpm_seg.pipeline.row import chunk_row
from ddpm_seg.runs.layout import RunLayout
from tests.tiny_bundle import TASK

SIDE, QUALITY, CHUNK, TURNS = 256, 90, 256, 3


def write_tar(path: Path, images: int) -> None:
    generator = np.random.default_rng(0)
    with tarfile.open(path, "w") as archive:
        for number in range(images):
            small = Image.fromarray(generator.integers(0, 256, (32, 32, 3), dtype=np.uint8))
            buffer = io.BytesIO()
            small.resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=QUALITY)
            for suffix, data in (("jpg", buffer.getvalue()), ("json", b"{}"), ("txt", b"a caption")):
                entry = tarfile.TarInfo(f"{number:06d}.{suffix}")
                entry.size = len(data)
                archive.addfile(entry, io.BytesIO(data))


def plain(path: Path) -> int:
    done = 0
    with tarfile.open(path) as archive:
        for entry in archive:
            if entry.name.endswith(".jpg"):
                file = archive.extractfile(entry)
                assert file is not None
                np.asarray(Image.open(io.BytesIO(file.read())).convert("RGB"))
                done += 1
    return done


def ours(path: Path, spec: LabelSpec) -> int:
    found = look_into(sources.info(str(path)), UNCHOSEN)
    inputs = [
        ImageInput(
            image_id=member.name, uri=f"{path}#{member.name}", read_uri=f"{path}#{member.name}", etag=None,
            size_bytes=member.size, container=str(path),
            place=Place(container=found.version, name=member.name, start=member.start, size=member.size),
        )
        for member in found.members
    ]  # fmt: skip
    done = 0
    for start in range(0, len(inputs), CHUNK):
        row = fetch_and_decode(chunk_row(0, start // CHUNK, inputs[start : start + CHUNK]), spec)
        done += sum(image.canvas is not None for image in pickle.loads(row["payload"]))
    return done


def read_alone(path: Path) -> int:
    """Without decoding."""
    found = look_into(sources.info(str(path)), UNCHOSEN)
    places = [Place(container=found.version, name=one.name, start=one.start, size=one.size) for one in found.members]
    return sum(len(list(read_places(places[start : start + CHUNK], 10**8))) for start in range(0, len(places), CHUNK))


def processor_seconds() -> float:
    """Of this process and all that it has started."""
    ticks, waiting = 0, [os.getpid()]
    while waiting:
        pid = waiting.pop()
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += sum(map(int, fields[11:15]))
            for task in Path(f"/proc/{pid}/task").iterdir():
                waiting += map(int, (task / "children").read_text().split())
        except OSError:
            continue
    return ticks / os.sysconf("SC_CLK_TCK")


def rate(work: Callable[[], int]) -> tuple[float, float]:
    wall, busy = time.perf_counter(), processor_seconds()
    done = work()
    return done / (processor_seconds() - busy), done / (time.perf_counter() - wall)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "00000.tar"
        write_tar(path, options.images)
        spec = LabelSpec(
            layout=RunLayout(output=folder, table="labels", config_hash="c", run_id="run-000001"),
            created_at=datetime.now(timezone.utc), model_id="m", code_version="v", image_size=SIDE, fit="letterbox",
            task=TASK,
        )  # fmt: skip
        assert ours(path, spec) == plain(path) == options.images  # decoding processes start here
        for _ in range(TURNS):
            read = partial(read_alone, path)
            theirs, mine = rate(lambda: plain(path)), rate(lambda: ours(path, spec))
            print(f"tarfile and Pillow: {theirs[0]:.0f} images/s of a core, {theirs[1]:.0f} by the clock", end="; ")
            shares = f"{mine[0] / theirs[0]:.2f}, {mine[1] / theirs[1]:.2f}"
            print(f"label's first stage: {mine[0]:.0f}, {mine[1]:.0f}; {shares}; reading alone: {rate(read)[0]:.0f}")


if __name__ == "__main__":
    main()
