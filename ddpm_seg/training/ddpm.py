"""Training of a DDPM on unlabelled images: Ho et al. (2020), algorithm 1, with min-SNR weights and an EMA.

Every iteration's images, flips, timesteps and noise come from (seed, iteration) alone, so that a resumed run and a run
on more workers draw the same batches.
"""

from __future__ import annotations

import copy
import io
import logging
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from ddpm_seg import storage
from ddpm_seg.model.bundle import Bundle
from ddpm_seg.model.ddpm import DDPMConfig
from ddpm_seg.model.device_copies import to_device
from ddpm_seg.model.diffusion import Diffusion, DiffusionConfig
from ddpm_seg.model.pixel_values import to_network
from ddpm_seg.model.unet import UNet, UNetConfig
from ddpm_seg.training.workers import Worker

logger = logging.getLogger(__name__)

MIN_SNR_GAMMA = 5.0
WARMUP_ITERATIONS = 200
DECAY_SHARE = 0.25
"""Of the iterations: the last ones, over which the learning rate falls linearly to zero (Hu et al., 2024). Until they
begin, a training does not depend on its length, so that it can still be made longer or shorter."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Optimization:
    """How a DDPM is trained."""

    iterations: int = 10_000
    batch_size: int = 32
    learning_rate: float = 5e-4
    ema_decay: float = 0.999
    precision: Literal["float32", "bfloat16"] = "float32"
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("iterations", "batch_size", "learning_rate"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay must be in [0, 1), got {self.ema_decay}")


def draw_batch(images: np.ndarray, steps: int, options: Optimization, iteration: int) -> tuple[Tensor, Tensor, Tensor]:
    """x_0 (B, 3, S, S) in [-1, 1], t (B,) and noise of one iteration, from (seed, iteration) alone."""
    rng = np.random.default_rng((options.seed, iteration))
    batch = images[rng.integers(len(images), size=options.batch_size)]
    flipped = rng.random(options.batch_size) < 0.5
    batch[flipped] = batch[flipped, :, ::-1]
    t_N = torch.from_numpy(rng.integers(steps, size=options.batch_size))
    x_0 = to_network(batch, "cpu")
    return x_0, t_N, torch.from_numpy(rng.standard_normal(x_0.shape, dtype=np.float32))


def denoising_loss(unet: nn.Module, diffusion: Diffusion, x_0: Tensor, t_N: Tensor, noise: Tensor) -> Tensor:
    """Mean squared error of the predicted noise, weighted by min(SNR, 5) / SNR (Hang et al., 2023, equation 7)."""
    prediction = unet(diffusion.q_sample(x_0, t_N, noise), t_N)[:, :3]
    error_N = (prediction - noise).square().mean(dim=(1, 2, 3))
    alpha_bar = to_device(torch.from_numpy(diffusion.alpha_bar).float(), x_0.device)[t_N]
    snr_N = alpha_bar / (1 - alpha_bar)
    return (error_N * snr_N.clamp_max(MIN_SNR_GAMMA) / snr_N).mean()


def learning_rate_factor(iteration: int, iterations: int) -> float:
    """Linear warm-up, constant, then linear down to zero over the last DECAY_SHARE of the iterations."""
    return min(1.0, (iteration + 1) / WARMUP_ITERATIONS, (iterations - iteration) / (DECAY_SHARE * iterations))


class DDPMTraining:
    """A network being trained: weights, their moving average and the optimiser's state."""

    def __init__(self, unet: UNetConfig, diffusion: DiffusionConfig, options: Optimization, worker: Worker) -> None:
        torch.manual_seed(options.seed)
        self.configs = {"unet": asdict(unet), "diffusion": asdict(diffusion), "options": asdict(options)}
        self.options, self.worker = options, worker
        self.diffusion = Diffusion(diffusion)
        self.unet = UNet(unet)
        self.unet.to(worker.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = copy.deepcopy(self.unet).requires_grad_(False)
        self.network = worker.parallel(self.unet) if worker.parallel else self.unet
        self.optimizer = torch.optim.AdamW(self.unet.parameters(), lr=options.learning_rate, weight_decay=1e-4)
        self.iteration = 0
        self.loss = math.nan

    def step(self, images: np.ndarray) -> None:
        """One iteration over this worker's share of the batch."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.options.learning_rate * learning_rate_factor(self.iteration, self.options.iterations)
        batch = draw_batch(images, len(self.diffusion.timesteps), self.options, self.iteration)
        share = slice(self.worker.rank, None, self.worker.world_size)
        # Dropout draws from torch's own generator: seeded here, a resumed run drops the same units.
        torch.manual_seed(1_000_003 * self.options.seed + self.iteration)
        x_0, t_N, noise = (to_device(tensor[share], self.worker.device) for tensor in batch)
        with torch.autocast(x_0.device.type, torch.bfloat16, enabled=self.options.precision == "bfloat16"):
            loss = denoising_loss(self.network, self.diffusion, x_0, t_N, noise)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.unet.parameters(), 1.0)
        self.optimizer.step()
        self.iteration += 1
        # Short at first, so that the random start does not linger in the average.
        decay = min(self.options.ema_decay, self.iteration / (self.iteration + 10))
        torch._foreach_lerp_(list(self.average.parameters()), list(self.unet.parameters()), 1 - decay)
        value = float(loss.detach())
        self.loss = value if math.isnan(self.loss) else 0.98 * self.loss + 0.02 * value

    def save(self, uri: str) -> None:
        """Writes everything that going on needs, whole or not at all."""
        buffer = io.BytesIO()
        modules = {name: getattr(self, name).state_dict() for name in ("unet", "average", "optimizer")}
        torch.save({"configs": self.configs, "iteration": self.iteration, "loss": self.loss, **modules}, buffer)
        storage.write_bytes(uri, buffer.getvalue())

    def resume(self, uri: str) -> None:
        """Takes over a saved state. Raises ValueError where it belongs to other settings."""
        state: dict[str, Any] = torch.load(
            io.BytesIO(storage.read_bytes(uri)), map_location=self.worker.device, weights_only=True
        )
        before = state["configs"]
        decay_begins = (1 - DECAY_SHARE) * min(before["options"]["iterations"], self.options.iterations)
        for part, values in self.configs.items():
            for name, value in values.items():
                if name == "iterations" and state["iteration"] <= decay_begins:
                    continue
                if before[part][name] != value:
                    raise ValueError(
                        f"the interrupted training at {storage.redact(uri)} has {part}.{name} = "
                        f"{before[part][name]}, not {value}; use its settings, or delete it to start anew"
                    )
        for name in ("unet", "average", "optimizer"):
            getattr(self, name).load_state_dict(state[name])
        self.iteration, self.loss = state["iteration"], state["loss"]
        logger.info("resumed at iteration %d of %d", self.iteration, self.options.iterations)

    def bundle(self, provenance: dict[str, Any]) -> Bundle:
        """The averaged network as a DDPM bundle, in float16, with its shared noise (torch's CPU generator, seed 0)."""
        size = self.unet.config.image_size
        return Bundle(
            network=DDPMConfig(unet=self.unet.config, diffusion=self.diffusion.config),
            weights={key: value.half().cpu() for key, value in self.average.state_dict().items()},
            noise=torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0)),
            provenance=provenance | {"optimization": asdict(self.options), "final_loss": round(self.loss, 5)},
        )


def train_ddpm(
    training: DDPMTraining, images: np.ndarray, state_uri: str, report: Callable[[DDPMTraining], None]
) -> None:
    """Trains to the end from wherever `state_uri` stands; saves there every few minutes and when interrupted.

    `images` (N, S, S, 3) uint8. `report` is called after every iteration.
    """
    leads = training.worker.rank == 0
    if storage.exists(state_uri):
        training.resume(state_uri)
    saved = time.monotonic()
    try:
        while training.iteration < training.options.iterations:
            training.step(images)
            report(training)
            if leads and time.monotonic() - saved > 180:
                training.save(state_uri)
                saved = time.monotonic()
    finally:
        if leads:
            training.save(state_uri)
