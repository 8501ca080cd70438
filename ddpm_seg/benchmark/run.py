"""Benchmarks a model on this machine for each number format of the activations; reports a table and JSON."""

from __future__ import annotations

import dataclasses
import logging
import os
import platform
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from ddpm_seg import storage
from ddpm_seg.benchmark.config import BenchmarkConfig
from ddpm_seg.benchmark.label_benchmark import LabelBenchmark, benchmark_labelling
from ddpm_seg.benchmark.model_benchmark import SEGMENTATION, ModelBenchmark, benchmark_model
from ddpm_seg.benchmark.published_size import published_size_bundle
from ddpm_seg.json_text import json_file
from ddpm_seg.model.bundle.ensemble_bundle import Bundle, load_bundle
from ddpm_seg.model.device.choice import default_device

logger = logging.getLogger(__name__)

IMAGES = 32  # the most images to segment at once
RESULT = "benchmark.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class BenchmarkReport:
    """What was measured, and where."""

    hardware: str
    machine: dict[str, Any]
    """Processor, its instruction sets as far as PyTorch uses them, GPU, and versions of the libraries."""
    date: str
    model: str
    models: tuple[ModelBenchmark, ...]
    """One per number format of the activations, in the order asked for (by default float32 first)."""
    labelling: LabelBenchmark | None

    @property
    def fastest(self) -> ModelBenchmark:
        return max(self.models, key=lambda one: one.images_per_hour)

    def equal_pixels(self, one: ModelBenchmark) -> float:
        """Share of pixels that `one` labels in the same way as the first model of the report."""
        n = min(len(one.labels), len(self.models[0].labels))
        return float((one.labels[:n] == self.models[0].labels[:n]).mean())


def run_benchmark(config: BenchmarkConfig) -> BenchmarkReport:
    """Runs the benchmark, and writes `benchmark.json` if `config.output` is given.

    Raises ValueError (`BundleError`) or OSError for a model or an output that cannot be used.
    """
    if config.output:
        storage.check_writable(config.output)
    bundle = published_size_bundle() if config.published_size else load_bundle(config.model)
    device = torch.device(default_device())
    dtypes = config.dtypes or (("float32", "bfloat16", "float16") if device.type == "cuda" else ("float32", "bfloat16"))
    images, models = pictures(bundle), []
    for dtype in dtypes:
        logger.info("%s on %s, %d rounds", dtype, device.type, config.rounds)
        reference = config.reference and dtype == dtypes[0]
        models.append(
            benchmark_model(
                bundle,
                images,
                dtype=dtype,
                device=device,
                rounds=config.rounds,
                reference=reference,
                compile=config.compile,
                profile=config.profile,
            )
        )
    report = BenchmarkReport(
        hardware=_hardware(device),
        machine=_machine(device),
        date=datetime.now(timezone.utc).date().isoformat(),
        model="published size, random weights" if config.published_size else storage.redact(config.model),
        models=tuple(models),
        labelling=benchmark_labelling(bundle, images, config.label, dtypes[0]) if config.label else None,
    )
    if config.output:
        storage.write_bytes(storage.join(config.output, RESULT), json_file(as_json(report)))
    return report


def pictures(bundle: Bundle) -> NDArray[np.uint8]:
    """(32, S, S, 3) uint8 test images of soft coloured blobs, always the same."""
    rng, size = np.random.default_rng(0), bundle.network.image_size
    small = rng.integers(0, 256, (IMAGES, 8, 8, 3), dtype=np.uint8)
    return np.stack([np.asarray(Image.fromarray(one).resize((size, size), Image.Resampling.BICUBIC)) for one in small])


def as_json(report: BenchmarkReport) -> dict[str, Any]:
    """The report as a dictionary for JSON."""
    values = dataclasses.asdict(report)
    for entry, one in zip(values["models"], report.models, strict=True):
        del entry["labels"]
        entry |= {"images_per_hour": one.images_per_hour, "equal_pixels": report.equal_pixels(one)}
    return values


def table(report: BenchmarkReport) -> str:
    """The report as Markdown, with one row per number format and part, followed by sentences."""
    lines = [
        f"{report.model}, {report.hardware}, {report.date}",
        "",
        "| activations | part | seconds per image | GFLOP | of the limit | of the segmentation |",
        "|---|---|---|---|---|---|",
    ]
    for one in report.models:
        whole = one.parts[SEGMENTATION].seconds
        lines += [
            f"| {one.dtype} | {name} | {part.seconds:.4g} | {part.flops / 1e9:.4g} | {part.share_of_limit:.0%} | "
            f"{part.seconds / whole:.1%} |"
            for name, part in one.parts.items()
        ]
    for one in report.models:
        lines += _operations(one)
    return "\n".join([*lines, "", *(_sentence(report, one) for one in report.models), *_conclusions(report)])


def _operations(one: ModelBenchmark) -> list[str]:
    if not one.operations:
        return []
    head = ["", f"| {one.dtype}: operation | calls | seconds | share |", "|---|---|---|---|"]
    return head + [f"| {op.name} | {op.calls} | {op.seconds:.4g} | {op.share:.1%} |" for op in one.operations]


def _sentence(report: BenchmarkReport, one: ModelBenchmark) -> str:
    return (
        f"{one.dtype}: {one.images_per_hour:,.0f} images per hour ({one.batch_size} at a time), "
        f"{one.memory_bytes / 2**30:.2f} GiB for one image in addition to the weights; the limit is "
        f"{one.peak_flops / 1e9:,.0f} GFLOP/s; {report.equal_pixels(one):.2%} of the pixels are the same as with "
        f"{report.models[0].dtype}"
    )


def _conclusions(report: BenchmarkReport) -> list[str]:
    first, fastest, lines = report.models[0], report.fastest, []
    if found := first.comparison:
        lines.append(
            f"published algorithm, {first.dtype}: takes {found.speedup:.2f} times as long, and "
            f"{found.memory_bytes / 2**30:.2f} GiB; {found.equal_pixels:.4%} of the pixels equal"
        )
    if found_labels := report.labelling:
        lines.append(
            f"from files to tables: {found_labels.images_per_hour:,.0f} images per hour "
            f"({found_labels.images} images); "
            f"actors compute {found_labels.computing:.0%} of the time"
        )
    if fastest is not first:
        gain = fastest.images_per_hour / first.images_per_hour
        lines.append(f"fastest: --dtype {fastest.dtype}, {gain:.2f} times {first.dtype}'s speed")
    return lines


def _machine(device: torch.device) -> dict[str, Any]:
    return {
        "processor": _processor(),
        "threads": torch.get_num_threads(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__},
    }


def _processor() -> str:
    """Linux names it in /proc/cpuinfo only."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())


def _hardware(device: torch.device) -> str:
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}"
    return f"{torch.get_num_threads()} of {os.cpu_count()} CPU cores ({platform.machine()}), torch {torch.__version__}"
