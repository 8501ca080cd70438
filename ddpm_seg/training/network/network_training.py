"""Trains a network on unlabelled images: batches, optimiser, moving average, saving and resuming.

Each iteration's images, flips and random numbers depend on (seed, iteration) alone, so that a resumed run, or one with
more workers, draws the same batches.
"""

from __future__ import annotations

import copy
import dataclasses
import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ddpm_seg.cluster.training_workers import Worker
from ddpm_seg.model.bundle.ensemble_bundle import Bundle
from ddpm_seg.model.device.compiled import compiled
from ddpm_seg.model.device.copies import to_device
from ddpm_seg.model.device.processor import prepare
from ddpm_seg.training.divergence import Watch
from ddpm_seg.training.network.held_out import HeldOut
from ddpm_seg.training.network.objective import Objective
from ddpm_seg.training.network.training_images import DECAY_SHARE, TrainingImages, draw_images
from ddpm_seg.training.optimization import Optimization
from ddpm_seg.training.saving import keeping
from ddpm_seg.training.unfinished import OtherTrainingError, refuse_other_settings, restoring, write_state

logger = logging.getLogger(__name__)

SAVE_SECONDS = 180.0
WARMUP_ITERATIONS = 200
EARLIER_IMAGES: Mapping[str, Any] = {"fit": "letterbox", "crop": 0.0, "held_out": 0, "recolour": False}
"""How earlier releases prepared images; their saved states do not say."""


def learning_rate_factor(iteration: int, iterations: int) -> float:
    """Linear warm-up, then constant, then linear decay to zero over the last DECAY_SHARE of the iterations."""
    return min(1.0, (iteration + 1) / WARMUP_ITERATIONS, (iterations - iteration) / (DECAY_SHARE * iterations))


class NetworkTraining:
    """A network in training: weights, their moving average and the optimiser's state.

    `compile` uses torch.compile (see `compiled`). It changes results by rounding only, so a training may be resumed
    with or without it.
    """

    def __init__(
        self,
        objective: Objective,
        options: Optimization,
        worker: Worker,
        *,
        images: Mapping[str, Any] = EARLIER_IMAGES,
        compile: bool = False,
    ) -> None:
        """`images` says how the images were prepared; a saved state must have the same."""
        torch.manual_seed(options.seed)
        prepare(worker.device, options.precision)
        self.objective, self.options, self.worker = objective, options, worker
        self.configs = objective.configs | {"options": asdict(options), "images": {**EARLIER_IMAGES, **images}}
        self.network = objective.build()
        self.network.to(worker.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = copy.deepcopy(self.network).requires_grad_(False)
        parallel = worker.parallel(self.network) if worker.parallel else self.network
        self.forward = compiled(parallel) if compile else parallel
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=options.learning_rate, **objective.adamw)
        self.watch = Watch("the network", "a lower --learning-rate or --precision float32, and look at the images")
        self.iteration = 0
        self.held_out: HeldOut | None = None
        self.loss = torch.tensor(math.nan, device=worker.device)
        """Moving average of the iterations' losses. Reading it waits for the device."""

    def step(self, images: TrainingImages | NDArray[np.uint8]) -> None:
        """One iteration on this worker's share of the batch."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.options.learning_rate * learning_rate_factor(self.iteration, self.options.iterations)
        varied_until = (1 - DECAY_SHARE if self.objective.draws_images else 1) * self.options.iterations
        batch = self.objective.draw(*draw_images(images, self.options, self.iteration, varied_until))
        share = slice(self.worker.rank, None, self.worker.world_size)
        # Dropout draws from torch's global generator: seeded per iteration, a resumed run drops the same units.
        torch.manual_seed(1_000_003 * self.options.seed + self.iteration)
        parts = [to_device(tensor[share], self.worker.device) for tensor in batch]
        with torch.autocast(parts[0].device.type, torch.bfloat16, enabled=self.options.precision == "bfloat16"):
            loss = self.objective.loss(self.forward, *parts)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        # Check before the step, so that on a CPU the weights stay finite. The norm covers all workers.
        self.watch.see(loss.detach() + norm)
        self.optimizer.step()
        self.iteration += 1
        # Average over few iterations at first, so that the random initial weights fade fast.
        decay = min(self.options.ema_decay, self.iteration / (self.iteration + 10))
        torch._foreach_lerp_(list(self.average.parameters()), list(self.network.parameters()), 1 - decay)
        self.loss = torch.where(self.loss.isnan(), loss.detach(), self.loss.lerp(loss.detach(), 0.02))

    def save(self, uri: str) -> None:
        """Writes everything needed to resume, atomically. Raises TrainingDiverged if the losses are not finite."""
        self.watch.look()
        modules = {name: getattr(self, name).state_dict() for name in ("network", "average", "optimizer")}
        about = {"configs": self.configs, "iteration": self.iteration, "loss": float(self.loss)}
        about |= {"held_out": self.held_out.state()} if self.held_out else {}
        write_state(uri, {**about, **modules})

    def resume(self, uri: str) -> None:
        """Restores a saved state. Raises ValueError if it is damaged or was made with other settings."""
        with restoring(uri) as state:
            before = {**state["configs"], "images": {**EARLIER_IMAGES, **state["configs"].get("images", {})}}
            if set(before) != set(self.configs):
                raise OtherTrainingError(
                    f"the interrupted training at {uri} is of another network "
                    f"({', '.join(sorted(before))}); choose a new --output, or delete it to start anew"
                )
            decay_begins = (1 - DECAY_SHARE) * min(before["options"]["iterations"], self.options.iterations)
            now = _by_path(self.configs)
            if state["iteration"] <= decay_begins:
                del now["options.iterations"]
            refuse_other_settings(uri, _by_path(before), now)
            if not all(tensor.isfinite().all() for name in ("network", "average") for tensor in state[name].values()):
                raise ValueError("its weights are not finite")
            for name in ("network", "average", "optimizer"):
                getattr(self, name).load_state_dict(state[name])
            if self.held_out:
                self.held_out.resume(state["held_out"], uri)
            self.iteration, self.loss = state["iteration"], torch.tensor(state["loss"], device=self.worker.device)
        logger.info("resumed at iteration %d of %d", self.iteration, self.options.iterations)

    def bundle(self, provenance: dict[str, Any]) -> Bundle:
        """A bundle of the averaged weights, in float16; of those with the lowest loss on held-out images, if any."""
        weights = self.held_out.weights if self.held_out else self.average.state_dict()
        bundle = self.objective.bundle({key: value.half().cpu() for key, value in weights.items()})
        training = {"optimization": asdict(self.options), "final_loss": round(float(self.loss), 5)}
        if self.held_out:
            training |= {"iterations": self.iteration, "held_out_loss": round(self.held_out.best, 5)}
        return dataclasses.replace(bundle, provenance={**bundle.provenance, **provenance, **training})


def _by_path(configs: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """All settings by the names that messages use, such as "options.seed"."""
    return {f"{part}.{name}": value for part, values in configs.items() for name, value in values.items()}


def train_network(
    training: NetworkTraining,
    images: TrainingImages | NDArray[np.uint8],
    state_uri: str,
    report: Callable[[NetworkTraining], None],
) -> None:
    """Trains to the end, from the state at `state_uri` if there is one. Saves there every few minutes, when stopped and
    at the end.

    `images` may be (N, S, S, 3) uint8. If some are held out, the training ends early once the loss on them no longer
    falls. `report` is called after every iteration.
    """
    options, held_out = training.options, None
    if isinstance(images, TrainingImages) and images.held_out:
        unseen = images.whole[images.split(options.seed)[1]]
        held_out = HeldOut(training.objective, unseen, options.seed, training.worker.device)
    training.held_out = held_out
    with keeping(training, state_uri, training.worker, seconds=SAVE_SECONDS) as saving:
        while training.iteration < options.iterations and not (held_out and held_out.over):
            with saving.step():
                training.step(images)
                if held_out and (held_out.due(training.iteration) or training.iteration == options.iterations):
                    loss = held_out.look(training.average)
                    logger.info("loss on held-out images after %d batches: %.5f", training.iteration, loss)
            report(training)
    if held_out and training.iteration < options.iterations:
        logger.info("stopped early: the loss on held-out images no longer falls")
    if training.worker.rank == 0:
        training.save(state_uri)
