"""How many samples an hour a network draws on this machine, without their masks.

    python -m tests.measurements.sampling_rate --model avatars-10 --batch-size 8
    python -m tests.measurements.sampling_rate --batch-size 1 --rounds 1    # a network of the published size

Draws one batch in a few and in more evaluations of the UNet, in turn, in each number format. The difference is the time
of an evaluation, from which follow the samples per hour for the numbers of steps that people use.
"""

from __future__ import annotations

import argparse
from functools import partial
from statistics import median

import torch

from ddpm_seg.benchmark.measure import in_turn
from ddpm_seg.benchmark.published_size import published_size_bundle
from ddpm_seg.model.bundle.ensemble_bundle import load_bundle
from ddpm_seg.model.device.choice import default_device
from ddpm_seg.model.resident import resident_drawer
from ddpm_seg.model.samples.drawing import Drawer
from ddpm_seg.model.samples.sampling import SamplingConfig

FEW, MORE = 2, 6
"""Evaluations per sample that are measured."""
STEPS = (10, 20, 50, 250)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="a bundle; without it, random weights of the published size")
    parser.add_argument("--dtypes", nargs="+", default=["float32"])
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args(arguments)
    bundle = load_bundle(options.model) if options.model else published_size_bundle()
    device = torch.device(default_device())
    works = {}
    for dtype in options.dtypes:
        for steps in (FEW, MORE):
            config = SamplingConfig(steps=steps)
            drawer = resident_drawer(bundle, config, device, dtype, batch_size=options.batch_size)
            works[f"{dtype}, {steps}"] = partial(_draw, drawer)
            works[f"{dtype}, {steps}"]()  # warm up
    seconds, _ = in_turn(works, options.rounds, device)
    print("| format | s per evaluation and sample | " + " | ".join(f"{steps} steps" for steps in STEPS) + " |")
    for dtype in options.dtypes:
        few, more = (median(seconds[f"{dtype}, {steps}"]) / options.batch_size for steps in (FEW, MORE))
        each = (more - few) / (MORE - FEW)
        hourly = [3600 / (few + (steps - FEW) * each) for steps in STEPS]
        print(f"| {dtype} | {each:.4f} | " + " | ".join(f"{rate:,.0f} an hour" for rate in hourly) + " |")


def _draw(drawer: Drawer) -> None:
    list(drawer.draw(0, range(drawer.batch_size)))


if __name__ == "__main__":
    main()
