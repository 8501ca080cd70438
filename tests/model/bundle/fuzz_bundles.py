"""Bundles that a stranger may have written: random changes of every kind of bundle, seeded.

    python -m tests.model.bundle.fuzz_bundles --count 2000 --seed 0

Each changed bundle is opened as the jobs open it. Whatever becomes of it must be a BundleError, or a model; within ten
seconds of processor time and 2 GB; and no file is opened but the bundle's own.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import struct
import sys
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from ddpm_seg.model.bundle.ensemble_bundle import Bundle, save_bundle
from ddpm_seg.model.bundle.student_bundle import StudentBundle, save_student
from ddpm_seg.model.device.meta import weight_shapes
from ddpm_seg.model.diffusion import DiffusionConfig
from ddpm_seg.model.errors import BundleError
from ddpm_seg.model.networks.diffusion.ddpm import DDPMConfig
from ddpm_seg.model.networks.diffusion.diffusers_config import DiffusersUNetConfig
from ddpm_seg.model.networks.student import StudentConfig
from ddpm_seg.model.networks.swav import SwAVConfig
from ddpm_seg.model.trained import load_model, read_trained_header
from tests.fuzzing import ODD, Bounds, change_values, run_as_asked
from tests.model.published.tiny_diffusers import ARCHITECTURE
from tests.model.tiny_networks import TINY_ALAE, TINY_MAE, TINY_SWAV, TINY_VDVAE, backbone_bundle
from tests.tiny_bundle import TASK, tiny_bundle


def make_bundles(folder: Path) -> list[Path]:
    """One bundle of each kind."""
    ddpm = tiny_bundle()
    diffusers = DDPMConfig(
        unet=DiffusersUNetConfig(architecture=ARCHITECTURE), diffusion=DiffusionConfig(betas=(0.1,) * 30, steps=30)
    )
    kinds: dict[str, Bundle] = {
        "ddpm": ddpm,
        "ddpm_alone": Bundle(network=ddpm.network, weights=ddpm.weights, noise=ddpm.noise),
        "mae": backbone_bundle(TINY_MAE, num_members=1),
        "swav": backbone_bundle(TINY_SWAV, num_members=1),
        "swav_w2": backbone_bundle(SwAVConfig(image_size=32, width=16), num_members=1),
        "vdvae": backbone_bundle(TINY_VDVAE, num_members=1),
        "alae": backbone_bundle(TINY_ALAE, num_members=1),
        "diffusers": backbone_bundle(diffusers, num_members=1),
    }
    for name, bundle in kinds.items():
        save_bundle(bundle, str(folder / name))
    student = StudentConfig(backbone="mobilenet_v3_large", num_classes=TASK.num_classes, image_size=16, resolution=16)
    weights = {key: torch.zeros(shape) for key, shape in weight_shapes(student).items()}
    save_student(StudentBundle(student=student, weights=weights, task=TASK), str(folder / "student"))
    return [folder / name for name in (*kinds, "student")]


def change(folder: Path, draw: random.Random) -> str:
    """Changes something of the bundle in `folder`; what."""
    changes = (_change_json, _change_text, _change_header, _change_file)
    return draw.choices(changes, [6, 1, 3, 1])[0](folder, draw)


def _change_json(folder: Path, draw: random.Random) -> str:
    content = json.loads((folder / "bundle.json").read_text())
    change_values(content, draw, ["extra", "unet", "student", "mae", "../x", ""])
    (folder / "bundle.json").write_text(json.dumps(content))
    return "json"


def _change_text(folder: Path, draw: random.Random) -> str:
    path = folder / "bundle.json"
    data = path.read_bytes()
    position = draw.randrange(len(data))
    path.write_bytes(
        draw.choice(
            [
                b"",
                b"\xef\xbb\xbf" + data,
                data.decode().encode("utf-16"),
                data[:position],
                data + b"{}",
                data[:position] + bytes([draw.randrange(256)]) + data[position + 1 :],
                b"[" * 200_000,
                b'{"a":' * 200_000,
                data.replace(b"{", b'{"schema_version": 1,', 1),
                data.replace(b"null", b"NaN").replace(b"0,", b"Infinity,"),
                data.replace(b'"input_size": ', b'"input_size": ' + b"9" * 5000),
                b"null",
                bytes(draw.randrange(256) for _ in range(300)),
                b" " * (2**24 + 1) + data,
                data.replace(b'"provenance": {', b'"provenance": {"deep": ' + b"[" * 300 + b"]" * 300 + b",", 1),
            ]
        )
    )
    return "text"


def _change_header(folder: Path, draw: random.Random) -> str:
    """The header of a safetensors file, with a sha256 that fits: only what reads the file can see it."""
    path = draw.choice(sorted(folder.glob("*.safetensors")))
    data = path.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    header, tensors = json.loads(data[8 : 8 + length]), data[8 + length :]
    entry = header[draw.choice([key for key in header if key != "__metadata__"])]
    what = draw.randrange(9)
    if what == 0:
        entry["dtype"] = draw.choice(["F64", "F16", "BOOL", "U8", "I64", "F8_E4M3", "C64", "nothing", None, 7])
    elif what == 1:
        shape = entry["shape"]
        entry["shape"] = draw.choice([[], [2**63, 2**63], [-1], [10**12], shape[::-1], shape * 2, None])
    elif what == 2:
        offsets = entry["data_offsets"]
        entry["data_offsets"] = draw.choice([[0, 0], [0, 2**63], [-8, 8], [5], None, [2**64, 2**65], offsets[::-1]])
    elif what == 3:
        key = draw.choice(list(header))
        header[draw.choice(["other", "../x", "\x00", key.upper()])] = header.pop(key)
    elif what == 4:
        header[draw.choice(["__metadata__", "more"])] = draw.choice(ODD)
    elif what == 5:
        tensors = tensors[: draw.randrange(len(tensors))]
    elif what == 6:
        tensors = tensors + bytes(draw.choice([1, 8, 2**20]))
    elif what == 7:
        tensors = b"\xff" * len(tensors)  # NaN in every floating type
    text = json.dumps(header).encode()
    size = len(text) if what != 8 else draw.choice([0, 1, 2**24 + 1, 2**32, 2**63, 2**64 - 1, len(text) - 1, len(data)])
    path.write_bytes(struct.pack("<Q", size) + text + tensors)
    content = json.loads((folder / "bundle.json").read_text())
    content["files"][path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
    (folder / "bundle.json").write_text(json.dumps(content))
    return "header"


def _change_file(folder: Path, draw: random.Random) -> str:
    """A file that is missing, another one, a folder, a pipe or a link."""
    path = draw.choice(sorted(folder.iterdir()))
    path.unlink()
    what = draw.randrange(7)
    if what == 0:
        path.mkdir()
    elif what == 1:
        os.mkfifo(path)
    elif what == 2:
        path.symlink_to(draw.choice(["/dev/zero", "/etc/passwd", "../../secret", path.name, "bundle.json"]))
    elif what == 3:
        path.write_bytes(draw.choice([b"", b"\0" * 100, b"version https://git-lfs.github.com/spec/v1\n", b"<html>"]))
    elif what == 4:
        with path.open("wb") as file:
            file.truncate(2**40)  # of holes
    elif what == 5:
        shutil.copy(draw.choice(sorted(path for path in folder.iterdir() if path.is_file())), path)
    return "file"


def outcome(folder: Path) -> str:
    """What opening the bundle comes to: "model", "refused" or a fault, with its name."""
    results = []
    for read in (load_model, read_trained_header):
        try:
            read(str(folder))
            results.append("model")
        except BundleError as error:
            text = str(error)
            bad = "\n" in text or len(text) > 1000 or str(folder) not in text
            results.append(f"FAULT: message {text[:300]!r}" if bad else "refused")
    faults = [result for result in results if result.startswith("FAULT")]
    return faults[0] if faults else results[0]


def fuzz(count: int, seed: int, folder: Path, report: Callable[[str], None] = print) -> Counter[tuple[str, str]]:
    """Opens `count` changed bundles; how often each (change, outcome) was met."""
    originals, counts, bounds = make_bundles(folder / "originals"), Counter[tuple[str, str]](), Bounds()
    for original in originals:  # what is imported on the way is imported now
        found = outcome(original)
        assert found == "model", (original, found)
    for number in range(count):
        draw = random.Random(f"{seed}/{number}")
        changed = folder / "changed"
        shutil.rmtree(changed, ignore_errors=True)
        original = draw.choice(originals)
        shutil.copytree(original, changed)
        what = change(changed, draw)
        found = bounds.keep(partial(outcome, changed), changed)
        if found.startswith("FAULT"):
            report(f"{original.name} {what} --seed {seed} number {number}: {found}")
        counts[what, found.partition(":")[0]] += 1
    return counts


def main() -> int:
    torch.set_num_threads(1)
    counts = run_as_asked(fuzz, __doc__, count=2000)
    for (what, found), number in sorted(counts.items()):
        print(f"{what:8} {found:12} {number}")
    return int(any(found.startswith("FAULT") for _, found in counts))


if __name__ == "__main__":
    sys.exit(main())
