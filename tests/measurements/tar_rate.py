"""How fast images are read from a local tar and decoded, beside a plain loop of tarfile and Pillow, in one run.

    python -m tests.measurements.tar_rate --images 2000

Images per second of processor time, that of the decoding processes too, and by the clock; in brackets the share of the
plain loop's. Medians over turns.
"""

from __future__ import annotations

import argparse
import io
import os
import statistics
import tarfile
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
from PIL import Image

from ddpm_seg.data.inputs import sources
from ddpm_seg.data.inputs.container import UNCHOSEN
from ddpm_seg.data.inputs.members import Place, look_into
from ddpm_seg.kept_memory import keep_freed_memory
from ddpm_seg.pipeline.label.fetch_members import fetch_members
from ddpm_seg.pipeline.label.rows import ImageInput, LabelSpec
from ddpm_seg.pipeline.label.stages import DECODERS, fetch_and_decode
from ddpm_seg.pipeline.row import chunk_row
from ddpm_seg.runs.layout import RunLayout
from tests.tiny_bundle import TASK

SIDE, QUALITY, CHUNK = 256, 90, 256


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


def found_in(path: Path) -> list[ImageInput]:
    """All images in a tar, by a walk through its headers."""
    found = look_into(sources.info(str(path)), UNCHOSEN)
    return [
        ImageInput(
            image_id=member.name, uri=f"{path}#{member.name}", read_uri=f"{path}#{member.name}", etag=None,
            size_bytes=member.size, container=str(path),
            place=Place(container=found.version, name=member.name, start=member.start, size=member.size),
        )
        for member in found.members
    ]  # fmt: skip


def ours(path: Path, spec: LabelSpec) -> int:
    """Walks, reads and decodes as the label job does."""
    inputs, done = found_in(path), 0
    for start in range(0, len(inputs), CHUNK):
        with ThreadPoolExecutor(DECODERS) as decoders:
            images = fetch_members(inputs[start : start + CHUNK], spec, decoders)
        done += sum(image.canvas is not None for image in images)
    return done


def with_hand_over(path: Path, spec: LabelSpec) -> int:
    """The label job's first stage, which also pickles the canvases for the next one."""
    inputs = found_in(path)
    for start in range(0, len(inputs), CHUNK):
        fetch_and_decode(chunk_row(0, start // CHUNK, inputs[start : start + CHUNK]), spec)
    return len(inputs)


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
    parser.add_argument("--turns", type=int, default=5)
    options = parser.parse_args()
    keep_freed_memory()  # as the label job's first stage does; the plain loop is no slower with it
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "00000.tar"
        write_tar(path, options.images)
        spec = LabelSpec(
            layout=RunLayout(output=folder, table="labels", config_hash="c", run_id="run-000001"),
            created_at=datetime.now(timezone.utc), model_id="m", code_version="v", image_size=SIDE, fit="letterbox",
            task=TASK,
        )  # fmt: skip
        assert ours(path, spec) == plain(path) == options.images  # decoding processes start here
        ways: dict[str, Callable[[], int]] = {
            "tarfile and Pillow": lambda: plain(path),
            "ours": lambda: ours(path, spec),
            "with hand-over": lambda: with_hand_over(path, spec),
            "walk alone": lambda: len(found_in(path)),
        }
        rates = {name: [] for name in ways}  # type: dict[str, list[tuple[float, float]]]
        for _ in range(options.turns):
            for name, work in ways.items():
                rates[name].append(rate(work))
    plainly = rates["tarfile and Pillow"]
    for name, turns in rates.items():
        core, clock = (statistics.median(column) for column in zip(*turns, strict=True))
        shares = [
            statistics.median(mine[way] / theirs[way] for mine, theirs in zip(turns, plainly, strict=True))
            for way in (0, 1)
        ]
        print(f"{name}: {core:.0f} images/s of a core ({shares[0]:.2f}), {clock:.0f} by the clock ({shares[1]:.2f})")


if __name__ == "__main__":
    main()
