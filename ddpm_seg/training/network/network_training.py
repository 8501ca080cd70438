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
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ddpm_seg.cluster.training_workers import Worker
from ddpm_seg.model.bundle.ensemble_bundle import Bundle
from ddpm_seg.model.device.compiled import compiled
from ddpm_seg.model.device.copies import to_device
from ddpm_seg.training.divergence import Watch
from ddpm_seg.training.optimization import Optimization
from ddpm_seg.training.saving import keeping
from ddpm_seg.training.unfinished import OtherTrainingError, refuse_other_settings, restoring, write_state

logger = logging.getLogger(__name__)

SAVE_SECONDS = 180.0
WARMUP_ITERATIONS = 200
DECAY_SHARE = 0.25
"""Last share of the iterations, over which the learning rate falls linearly to zero (Hu et al., 2024). Before it, a
training does not depend on its length, so that it can still be made longer or shorter."""
EARLIER_IMAGES: Mapping[str, Any] = {"fit": "letterbox"}
"""How earlier releases prepared images; their saved states do not say."""


class Objective(Protocol):
    """A network to train, and its loss."""

    adamw: Mapping[str, Any]
    """AdamW's arguments besides the learning rate."""

    @property
    def configs(self) -> dict[str, dict[str, Any]]:
        """All settings of the network and its loss, by section."""

    def build(self) -> nn.Module:
        """Builds the module to train; its initial weights come from torch's global generator."""

    def draw(self, images: NDArray[np.uint8], rng: np.random.Generator) -> tuple[Tensor, ...]:
        """A random batch from `images` (B, S, S, 3) uint8, as tensors whose first axis is B."""

    def loss(self, network: Callable[..., Tensor], *batch: Tensor) -> Tensor:
        """Mean loss over a batch from `draw`, or over a worker's part of it."""

    def bundle(self, weights: Mapping[str, Tensor]) -> Bundle:
        """The bundle to save, made of the trained weights."""


def draw_images(
    images: NDArray[np.uint8], options: Optimization, iteration: int
) -> tuple[NDArray[np.uint8], np.random.Generator]:
    """One iteration's images (B, S, S, 3) uint8, half of them mirrored, and the generator for its other random
    numbers."""
    rng = np.random.default_rng((options.seed, iteration))
    batch = images[rng.integers(len(images), size=options.batch_size)]
    flipped = rng.random(options.batch_size) < 0.5
    batch[flipped] = batch[flipped, :, ::-1]
    return batch, rng


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
        self.loss = torch.tensor(math.nan, device=worker.device)
        """Moving average of the iterations' losses. Reading it waits for the device."""

    def step(self, images: NDArray[np.uint8]) -> None:
        """One iteration on this worker's share of the batch."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.options.learning_rate * learning_rate_factor(self.iteration, self.options.iterations)
        batch = self.objective.draw(*draw_images(images, self.options, self.iteration))
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
        write_state(uri, {**about, **modules})

    def resume(self, uri: str) -> None:
        """Restores a saved state. Raises ValueError if it is damaged or was made with other settings."""
        with restoring(uri) as state:
            before = {"images": EARLIER_IMAGES, **state["configs"]}
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
            self.iteration, self.loss = state["iteration"], torch.tensor(state["loss"], device=self.worker.device)
        logger.info("resumed at iteration %d of %d", self.iteration, self.options.iterations)

    def bundle(self, provenance: dict[str, Any]) -> Bundle:
        """A bundle of the averaged weights, in float16."""
        bundle = self.objective.bundle({key: value.half().cpu() for key, value in self.average.state_dict().items()})
        training = {"optimization": asdict(self.options), "final_loss": round(float(self.loss), 5)}
        return dataclasses.replace(bundle, provenance={**bundle.provenance, **provenance, **training})


def _by_path(configs: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """All settings by the names that messages use, such as "options.seed"."""
    return {f"{part}.{name}": value for part, values in configs.items() for name, value in values.items()}


def train_network(
    training: NetworkTraining, images: NDArray[np.uint8], state_uri: str, report: Callable[[NetworkTraining], None]
) -> None:
    """Trains to the end, from the state at `state_uri` if there is one. Saves there every few minutes, when stopped and
    at the end.

    `images` are (N, S, S, 3) uint8. `report` is called after every iteration.
    """
    with keeping(training, state_uri, training.worker, seconds=SAVE_SECONDS) as saving:
        while training.iteration < training.options.iterations:
            with saving.step():
                training.step(images)
            report(training)
    if training.worker.rank == 0:
        training.save(state_uri)
