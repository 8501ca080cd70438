"""Checkpoints and diffusers folders that a stranger may have: random changes of everything that jobs.convert takes.

    python -m tests.model.published.fuzz_checkpoints --count 600 --seed 0

Each changed model is converted by the job itself. It must end with status 2 and one line, or with a bundle; with the
very model where the change means nothing; within ten seconds of processor time and 2 GB; and no file is opened but the
model's own.
"""

from __future__ import annotations

import contextlib
import io
import random
import re
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch
from diffusers import DDPMPipeline

from ddpm_seg.model.published.alae import NOT_READ
from jobs import convert
from tests.fuzzing import Bounds, run_as_asked
from tests.model.networks.style import test_stylegan
from tests.model.published.checkpoint_changes import REFUSED, SAME, WEIGHTS, change_file
from tests.model.published.published_files import FLAGS, write_modelscope, write_published, write_published_backbone
from tests.model.published.tiny_diffusers import pipeline
from tests.model.recorded_gans import GOLDEN, inversion_checkpoint, rosinality_checkpoint, written
from tests.model.recorded_vdvae_alae import VDVAE32_FLAGS, save
from tests.model.recorded_vdvae_alae import state as published_state

# Flags of the job, where "{}" is the model's folder.
KINDS: dict[str, list[str]] = {
    "ddpm": ["--ddpm", "{}/cat.pt", "--classifiers", "{}/pixel_classifiers", "--experiment", "{}/ddpm.json",
             "--model-flags", FLAGS],
    "mae": ["--mae", "{}/mae.pth", "--classifiers", "{}/pixel_classifiers", "--experiment", "{}/mae.json"],
    "swav": ["--swav", "{}/swav.pth"],
    "vdvae": ["--vdvae", "{}/ema.th", "--model-flags",
              " ".join(f"--{name} {value}" for name, value in VDVAE32_FLAGS.items())],
    "alae": ["--alae", "{}/alae.pth"],
    "gan encoder": ["--gan-encoder", "{}/e4e.pt"],
    "gan inversion": ["--gan-inversion", "{}/e4e.pt"],
    "stylegan": ["--stylegan", "{}/g_all.pt"],
    "stylegan2": ["--stylegan2", "{}/config-f.pt"],
    "nvlabs": ["--stylegan2", "{}/network.pkl"],
    "modelscope": ["--modelscope", "{}"],
    "diffusers": ["--diffusers", "{}"],
    "diffusers bin": ["--diffusers", "{}"],
    "diffusers shards": ["--diffusers", "{}"],
    "diffusers variant": ["--diffusers", "{}"],
}  # fmt: skip
# SwAV's ResNet has one size, 94 MB.
WEIGHT_OF_KIND = {kind: 1 if kind == "swav" else 4 for kind in KINDS}


def make_models(folder: Path) -> dict[str, Path]:
    """One model of each kind."""
    for kind in KINDS:
        (folder / kind).mkdir(parents=True)
    write_published(folder / "ddpm")
    write_published_backbone(folder / "mae", "mae64")
    write_published_backbone(folder / "swav", "swav64")
    state = torch.load(folder / "swav" / "swav.pth")["state_dict"]
    torch.save({"state_dict": {key: value.contiguous() for key, value in state.items()}}, folder / "swav" / "swav.pth")
    save(folder / "vdvae" / "ema.th", published_state("vdvae32"))
    encoder = published_state("alae128").items()
    # A change of what is not read would mean nothing.
    torch.save({key: value for key, value in encoder if not NOT_READ.match(key)}, folder / "alae" / "alae.pth")
    _make_gans(folder)
    for kind in ("vdvae", "alae", "gan encoder", "gan inversion", "stylegan", "stylegan2", "nvlabs"):
        (folder / kind / "README").write_text("what a file may be mistaken for")
    write_modelscope(folder / "modelscope")
    written = DDPMPipeline.from_pretrained(pipeline(folder / "diffusers"), low_cpu_mem_usage=False)
    written.save_pretrained(folder / "diffusers bin", safe_serialization=False)
    written.save_pretrained(folder / "diffusers shards", max_shard_size="1MB")
    written.save_pretrained(folder / "diffusers variant", variant="fp16")
    return {kind: folder / kind for kind in KINDS}


def _make_gans(folder: Path) -> None:
    """Without the tensors that are not read."""
    whole = inversion_checkpoint()
    for kind, unread in {
        "gan encoder": r"encoder\.styles\.|decoder\.",
        "gan inversion": r"decoder\.(style\.|to_rgb|.*kernel)",
    }.items():
        kept = {key: value for key, value in whole["state_dict"].items() if not re.match(unread, key)}
        written(folder / kind / "e4e.pt", {**whole, "state_dict": kept})
    generator = rosinality_checkpoint()
    kept = {key: value for key, value in generator["g_ema"].items() if not key.endswith("kernel")}
    written(folder / "stylegan2" / "config-f.pt", {**generator, "g_ema": kept})
    first = {key: value for key, value in test_stylegan.state().items() if not key.endswith("kernel")}
    written(folder / "stylegan" / "g_all.pt", first)
    shutil.copy(GOLDEN / "nv_32.pkl", folder / "nvlabs" / "network.pkl")


def outcome(kind: str, model: Path, output: Path) -> str:
    """The model_id of the bundle, or "refused"; raises what the job raises."""
    shutil.rmtree(output, ignore_errors=True)
    said, complained = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(complained):
        status = convert.main([*(flag.replace("{}", str(model)) for flag in KINDS[kind]), "--output", str(output)])
    if status == 0 and (found := re.search(r"model_id: (\w{16})\n", said.getvalue())):
        return found[1]
    text = complained.getvalue()
    bad = status != 2 or said.getvalue() or not text.startswith("error: ") or text.count("\n") != 1 or len(text) > 1200
    return f"FAULT: status {status}, {text[:300]!r}" if bad or output.exists() else "refused"


def fuzz(count: int, seed: int, folder: Path, report: Callable[[str], None] = print) -> Counter[tuple[str, str, str]]:
    """Converts `count` changed models; how often each (kind, change, outcome) was met."""
    models, bounds = make_models(folder / "originals"), Bounds()
    output, temporary = folder / "bundle", folder / "temporary"
    temporary.mkdir()
    counts = Counter[tuple[str, str, str]]()
    with _temporary_files_in(temporary):
        # What is imported on the way is imported now.
        ids = {kind: outcome(kind, model, output) for kind, model in models.items()}
        assert all(re.fullmatch(r"\w{16}", found) for found in ids.values()), ids
        for number in range(count):
            draw = random.Random(f"{seed}/{number}")
            kind = draw.choices(list(KINDS), list(WEIGHT_OF_KIND.values()))[0]
            changed = folder / "changed"
            shutil.rmtree(changed, ignore_errors=True)
            shutil.copytree(models[kind], changed)
            file = draw.choice(sorted(path for path in _used(kind, changed)))
            what, expected = change_file(file, changed, draw)
            found = bounds.keep(partial(outcome, kind, changed, output), changed, output, temporary)
            found = _judged(found, expected, ids[kind])
            if found.startswith("FAULT"):
                report(f"{kind}: {file.name}, {what} (--seed {seed}, number {number}): {found}")
            counts[kind, what, found.partition(":")[0]] += 1
    return counts


def _used(kind: str, model: Path) -> list[Path]:
    """Files that the job reads of a model: some kinds come with more."""
    files = [path for path in model.rglob("*") if path.is_file() and path.suffix in (*WEIGHTS, ".pkl", ".json")]
    return [model / "swav.pth"] if kind == "swav" else files


def _judged(found: str, expected: str, model_id: str) -> str:
    if found.startswith("FAULT"):
        return found
    named = found if found == REFUSED else SAME if found == model_id else "another model"
    return named if expected in (named, "any") else f"FAULT: {named}, expected {expected}"


@contextlib.contextmanager
def _temporary_files_in(folder: Path) -> Iterator[None]:
    before, tempfile.tempdir = tempfile.tempdir, str(folder)
    try:
        yield
    finally:
        tempfile.tempdir = before


def main() -> int:
    torch.set_num_threads(1)
    counts = run_as_asked(fuzz, __doc__, count=600)

    totals = Counter[tuple[str, str]]()
    for (kind, _, found), number in counts.items():
        totals[kind, found] += number
    for (kind, found), number in sorted(totals.items()):
        print(f"{kind:18} {found:14} {number}")
    return int(any(found.startswith("FAULT") for _, found in totals))


if __name__ == "__main__":
    sys.exit(main())
