"""Chooses the steps and blocks to read, by cross-validation on the annotated images themselves."""

# Shapes: P pixels, D features, K classes.

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from statistics import fmean, stdev

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ddpm_seg.data.annotations.load import Annotation, counted_pixels, labelled_pixels, with_pixels
from ddpm_seg.evaluation.scores.metrics import usual_ious
from ddpm_seg.evaluation.scores.miou import confusion_matrix
from ddpm_seg.model.bundle.ensemble_bundle import Bundle
from ddpm_seg.model.features import FeatureConfig
from ddpm_seg.model.network import Network
from ddpm_seg.tasks import Task
from ddpm_seg.training.ensemble.ensemble_training import EnsembleConfig, train_members
from ddpm_seg.training.ensemble.extraction import Workplace, extract_features
from ddpm_seg.training.ensemble.members import mean_softmax
from ddpm_seg.training.ensemble.pixel_features import PixelFeatures
from ddpm_seg.training.ensemble.sources import feature_reader, sources_of

logger = logging.getLogger(__name__)

# Timesteps of 1000: the published 50, 150 and 250, and some around them.
CANDIDATES = (5, 20, 50, 100, 150, 250, 400)
MOST_STEPS = 4
MOST_BLOCKS = 32
"""For a network with more blocks, only the published ones are tried, since all features are stored first, for every
image."""
FOLDS = 4
SCORED_PIXELS = 4096
"""Random pixels scored per held-out image: enough to tell choices apart, whatever the image's size."""
QUICK = EnsembleConfig(members=2, iterations=300, standardize=False)  # features are standardised once for all trials


Candidates = tuple[tuple[int, ...], tuple[int, ...]]
"""Steps (none for a network without timesteps) and blocks to try."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """One choice of steps and blocks, with its score and cost."""

    steps: tuple[int, ...]
    blocks: tuple[int, ...]
    miou: float
    """Usual mean IoU on held-out images, in [0, 1], averaged over the folds."""
    deviation: float
    """Standard deviation of the mean IoU over the folds."""
    seconds: float
    """Seconds per image through the network on this machine: number of steps times the time up to the last block."""


def tune(
    bundle: Bundle,
    annotations: Sequence[Annotation],
    task: Task,
    *,
    upsample_mode: str,
    device: str,
    truncation: float | None = None,
    noise_draws: int | None = None,
    candidates: Candidates | None = None,
    training: EnsembleConfig = QUICK,
    workplace: Workplace | None = None,
) -> list[Trial]:
    """Tries steps and blocks, those of `candidates` or a fixed choice of them; returns all trials.

    Adds steps one by one, with all blocks, for as long as the score rises; then drops blocks from either end. A network
    without steps is first tried with all blocks and with the published ones. If it has more than `MOST_BLOCKS`, "all
    blocks" are the published ones.

    Images without annotated pixels are left out. Raises ValueError for fewer other images than folds.
    """
    annotations = with_pixels(annotations, task)
    if len(annotations) < FOLDS:
        raise ValueError(
            f"--tune needs at least {FOLDS} annotated images to hold some out, got {len(annotations)} with a pixel of "
            "a class that is not ignored"
        )
    network = bundle.network
    steps, blocks = candidates or (candidate_steps(network), candidate_blocks(network))
    published = tuple(block for block in network.published_features().blocks if block in blocks) or blocks
    features = FeatureConfig(
        steps=steps,
        blocks=blocks,
        upsample_mode=upsample_mode,  # type: ignore[arg-type]
        truncation=truncation,
        noise_draws=noise_draws,
    )
    maps = extract_features(bundle, annotations, features, device, workplace)
    seconds = _seconds(bundle, annotations[0], features, device)
    choices = _Choices(maps, annotations, task, features, training, seconds)
    best = _best_steps(choices) if steps else choices.best_of([((), few) for few in sorted({blocks, published})])
    cuts = [best.blocks[:-cut] for cut in (1, 2, 3)] + [best.blocks[cut:] for cut in (1, 2, 3)]
    if any(cuts):
        choices.best_of([(best.steps, cut) for cut in cuts if cut])
    return choices.trials


def _best_steps(choices: _Choices) -> Trial:
    """Adds steps one by one, with all blocks, for as long as the score rises."""
    steps, blocks = choices.steps, choices.blocks
    best = choices.best_of([((step,), blocks) for step in steps])
    while len(best.steps) < min(MOST_STEPS, len(steps)):
        left = [step for step in steps if step not in best.steps]
        longer = choices.best_of([(tuple(sorted((*best.steps, step))), blocks) for step in left])
        if longer.miou <= best.miou:
            break
        best = longer
    return best


def candidate_steps(network: Network) -> tuple[int, ...]:
    """`CANDIDATES` on the network's own schedule, ascending; none for a network without timesteps."""
    return tuple(sorted({candidate * network.timesteps // 1000 for candidate in CANDIDATES if network.timesteps}))


def candidate_blocks(network: Network) -> tuple[int, ...]:
    """All blocks, or the published ones if there are more than `MOST_BLOCKS`."""
    blocks = range(len(network.block_channels))
    return tuple(blocks) if len(blocks) <= MOST_BLOCKS else network.published_features().blocks


def frontier(trials: Iterable[Trial]) -> list[Trial]:
    """The trials that no other beats in both score and time, fastest first."""
    kept: list[Trial] = []
    for trial in sorted(trials, key=lambda one: (one.seconds, -one.miou)):
        if not kept or trial.miou > kept[-1].miou:
            kept.append(trial)
    return kept


def describe_frontier(trials: Sequence[Trial]) -> str:
    """The frontier as a text table, with the number of trials behind it."""
    lines = [f"{'mean IoU':<16}{'s/image':>10}  steps and blocks"]
    for trial in frontier(trials):
        steps = f"--steps {' '.join(map(str, trial.steps))} " if trial.steps else ""
        chosen = f"{steps}--blocks {' '.join(map(str, trial.blocks))}"
        lines.append(f"{trial.miou:.3f} ± {trial.deviation:.3f}   {trial.seconds:>10.3f}  {chosen}")
    lines.append(f"best of {len(trials)} choices, each over {FOLDS} folds; slower and worse ones are left out")
    return "\n".join(lines)


class _Choices:
    """The features of every candidate, extracted once, the folds, and the trials so far."""

    def __init__(
        self,
        maps: PixelFeatures,
        annotations: Sequence[Annotation],
        task: Task,
        features: FeatureConfig,
        training: EnsembleConfig,
        seconds: Callable[[int], float],
    ) -> None:
        self.maps, self.task, self.training, self.seconds = maps, task, training, seconds
        self.steps, self.blocks = features.steps, features.blocks
        self.trials: list[Trial] = []
        self.maps.standardize()
        labels = [annotation.label for annotation in annotations]
        pixels, classes = labelled_pixels(labels, task)
        self.pixels_P, self.labels_P = torch.from_numpy(pixels), torch.from_numpy(classes).long()
        self.fold_P = self.pixels_P // labels[0].size % FOLDS
        self.held_out = [_some_pixels(labels, fold, task) for fold in range(FOLDS)]

    def trial(self, steps: tuple[int, ...], blocks: tuple[int, ...]) -> Trial:
        places = [(step, block) for step in self.steps or (None,) for block in self.blocks]
        read = [i for i, (step, block) in enumerate(places) if (step is None or step in steps) and block in blocks]
        maps = self.maps.select(read)
        scores = [self._score(maps, fold) for fold in range(FOLDS)]
        seconds = max(1, len(steps)) * self.seconds(blocks[-1])
        return Trial(steps=steps, blocks=blocks, miou=fmean(scores), deviation=stdev(scores), seconds=seconds)

    def best_of(self, options: Sequence[tuple[tuple[int, ...], tuple[int, ...]]]) -> Trial:
        """Tries steps and blocks, one pair after another; returns the best trial, the first if several are."""
        tried = []
        for option in options:
            tried.append(self.trial(*option))
            logger.info("steps %s, blocks %s: mean IoU %.3f", *option, tried[-1].miou)
        self.trials.extend(tried)
        return max(tried, key=lambda trial: trial.miou)

    def _score(self, maps: PixelFeatures, fold: int) -> float:
        learnt = self.fold_P != fold
        members = train_members(
            maps, self.pixels_P[learnt], self.labels_P[learnt], self.task.num_classes, self.training
        )
        pixels, target = self.held_out[fold]
        x_PD = maps.gather(pixels)
        p_PK = mean_softmax((member.weights for member in members), x_PD)
        confusion = confusion_matrix(p_PK.argmax(dim=1).cpu().numpy(), target, self.task.num_classes)
        return float(np.nanmean(usual_ious(confusion, self.task.ignore_label)))


def _seconds(bundle: Bundle, annotation: Annotation, features: FeatureConfig, device: str) -> Callable[[int], float]:
    """A function from a block to the seconds that one step of one image takes up to it; each block is timed once."""
    read, (source,) = feature_reader(bundle, features.truncation, device), sources_of(bundle, [annotation])

    @cache
    @torch.inference_mode()
    def seconds(block: int) -> float:
        steps = (0,) if bundle.network.timesteps else ()
        one = FeatureConfig(steps=steps, blocks=(block,), noise_draws=features.noise_draws)
        started = time.perf_counter()
        for _ in range(3):
            read(source, one)
        return (time.perf_counter() - started) / 3

    return seconds


def _some_pixels(labels: Sequence[NDArray[np.uint8]], fold: int, task: Task) -> tuple[Tensor, NDArray[np.uint8]]:
    """Positions and annotated classes of up to `SCORED_PIXELS` pixels that count, of each image in a fold."""
    rng, chosen, size = np.random.default_rng(fold), [], labels[0].size
    for index in range(fold, len(labels), FOLDS):
        order, counted = rng.permutation(size), counted_pixels(labels[index], task).ravel()
        chosen.append(index * size + order[counted[order]][:SCORED_PIXELS])
    positions = np.concatenate(chosen)
    return torch.from_numpy(positions), np.stack(labels).reshape(-1)[positions]
