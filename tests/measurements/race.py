"""Compares training ten members by the published loop and by ours, on the same features: seconds and mean IoU.

    python -m tests.measurements.race --model bundles/avatars-10 --train avatars/annotated-{1,2,3,4,5} \\
        --test avatars/test

The published loop (train_interpreter.py) is transcribed plainly: one member after the other, a DataLoader over float32
features of all labelled pixels. Ours reads the float16 maps. Both start with the features in memory; ours are trained
between the published ones, so that both meet the same machine. One line of JSON a split, then means and ratios.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from collections.abc import Sequence
from statistics import fmean, stdev
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from ddpm_seg.data.annotations.load import Annotation, labelled_pixels, load_annotations
from ddpm_seg.model.bundle.ensemble_bundle import Bundle, load_bundle
from ddpm_seg.model.ensemble import Member
from ddpm_seg.training.ensemble.ensemble_training import EnsembleConfig, train_members
from ddpm_seg.training.ensemble.extraction import extract_features
from ddpm_seg.training.ensemble.few_shot import score


class PublishedClassifier(nn.Module):
    """Up to 30 classes."""

    def __init__(self, num_classes: int, num_features: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(num_features, 128), nn.ReLU(), nn.BatchNorm1d(128),
            nn.Linear(128, 32), nn.ReLU(), nn.BatchNorm1d(32),
            nn.Linear(32, num_classes),
        )  # fmt: skip
        for layer in self.layers:
            if isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, 0.0, 0.02)
                nn.init.zeros_(layer.bias)

    def forward(self, x_PD: Tensor) -> Tensor:
        return self.layers(x_PD)


def published_members(x_PD: Tensor, labels_P: Tensor, num_classes: int, members: int) -> list[Member]:
    """The published loop."""
    loader = DataLoader(TensorDataset(x_PD, labels_P), batch_size=64, shuffle=True, drop_last=True)
    trained: list[Member] = []
    for number in range(members):
        torch.manual_seed(number)
        classifier = PublishedClassifier(num_classes, x_PD.shape[1]).train()
        criterion, optimizer = nn.CrossEntropyLoss(), torch.optim.Adam(classifier.parameters(), lr=1e-3)
        best, waited = float("inf"), 0
        for epoch in range(100):
            for x, y in loader:
                optimizer.zero_grad()
                loss = criterion(classifier(x), y)
                loss.backward()
                optimizer.step()
                if epoch > 3:
                    best, waited = (loss.item(), 0) if loss.item() < best else (best, waited + 1)
                    if waited > 50:
                        break
            if waited > 50:
                break
        trained.append({key: value.clone() for key, value in classifier.state_dict().items()})
    return trained


def race(
    bundle: Bundle, train: Sequence[Annotation], test: Sequence[Annotation], members: int, iterations: Sequence[int]
) -> dict[str, Any]:
    """Seconds and mean IoU of the published loop, and of ours with each number of iterations."""
    task, features = bundle.task, bundle.features
    assert task is not None
    assert features is not None
    positions, classes = labelled_pixels([one.label for one in train], task)
    pixels, labels = torch.from_numpy(positions), torch.from_numpy(classes).long()

    def result(seconds: float, trained: Sequence[Member]) -> dict[str, float]:
        return {"seconds": seconds, "miou": score(dataclasses.replace(bundle, members=tuple(trained)), test)}

    found: dict[str, Any] = {"features": sum(features.channels(bundle.network)), "pixels": len(pixels)}
    for number in iterations:
        maps = extract_features(bundle, train, features, "cpu")
        started = time.perf_counter()
        ours = train_members(maps, pixels, labels, task.num_classes, EnsembleConfig(members=members, iterations=number))
        found[f"ours, {number} batches"] = result(time.perf_counter() - started, [one.weights for one in ours])
    x_PD = extract_features(bundle, train, features, "cpu").gather(pixels)
    started = time.perf_counter()
    published = published_members(x_PD, labels, task.num_classes, members)
    found["published"] = result(time.perf_counter() - started, published)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--train", nargs="+", required=True)
    parser.add_argument("--test", required=True)
    parser.add_argument("--members", type=int, default=10)
    parser.add_argument("--iterations", type=int, nargs="+", default=[400, 1500])
    options = parser.parse_args()
    bundle = load_bundle(options.model)
    assert bundle.task is not None
    size, task = bundle.network.image_size, bundle.task
    test = load_annotations(options.test, image_size=size, task=task)
    rows = []
    for uri in options.train:
        train = load_annotations(uri, image_size=size, task=task)
        rows.append(race(bundle, train, test, options.members, options.iterations))
        print(json.dumps({"split": uri.rstrip("/").rpartition("/")[2], **rows[-1]}), flush=True)
    for name in [f"ours, {number} batches" for number in options.iterations] + ["published"]:
        scores, seconds = [row[name]["miou"] for row in rows], [row[name]["seconds"] for row in rows]
        ratios = [row["published"]["seconds"] / row[name]["seconds"] for row in rows]
        deviation = f" ± {stdev(scores):.4f}" if len(scores) > 1 else ""
        print(f"{name:<20} mIoU {fmean(scores):.4f}{deviation}, {fmean(seconds):.0f} s, {min(ratios):.1f} to "
              f"{max(ratios):.1f} times as fast as published")  # fmt: skip


if __name__ == "__main__":
    main()
