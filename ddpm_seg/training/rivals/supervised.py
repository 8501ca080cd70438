"""A small U-Net trained from scratch on annotated images alone: the usual approach, as a baseline for features."""

# Shapes: N images of S x S pixels, K classes.

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from ddpm_seg.checks import check_least, check_positive
from ddpm_seg.model.device.processor import has_bfloat16, prepare
from ddpm_seg.model.networks.pixel_values import to_network
from ddpm_seg.model.networks.plain_unet import PlainUNet
from ddpm_seg.progress import Progress
from ddpm_seg.tasks import UNLABELLED, Task
from ddpm_seg.training.augmentation import Augmentation, augment
from ddpm_seg.training.divergence import Watch

WARMUP_ITERATIONS = 50


@dataclass(frozen=True, kw_only=True, slots=True)
class SupervisedConfig:
    """How to train the network. The defaults are the best of ten settings tried on 20 avatars, by validation score."""

    width: int = 24
    levels: int = 4
    iterations: int = 1500
    batch_size: int = 16
    learning_rate: float = 3e-3
    weight_decay: float = 1e-2
    dice: float = 1.0
    """Weight of the Dice loss beside the cross-entropy."""
    augmentation: Augmentation = field(default_factory=Augmentation)
    seed: int = 0

    def __post_init__(self) -> None:
        check_least(self, width=1, levels=1, iterations=1, batch_size=1, weight_decay=0, dice=0, seed=0)
        check_positive(self, "learning_rate")


def train_supervised(
    images: NDArray[np.uint8], labels: NDArray[np.uint8], task: Task, config: SupervisedConfig, device: str = "cpu"
) -> PlainUNet:
    """Trains on `images` (N, S, S, 3) uint8 and their `labels` (N, S, S) uint8.

    Skips pixels of the ignored class and unlabelled ones. The same seed gives the same network on the same kind of
    processor.
    """
    prepare(device)
    torch.manual_seed(config.seed)
    generator = torch.Generator().manual_seed(config.seed)
    network = PlainUNet(task.num_classes, width=config.width, levels=config.levels)
    network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda done: learning_rate_factor(done, config.iterations))
    x, target = to_network(images, "cpu"), torch.from_numpy(usable_labels(labels, task))
    watch = Watch("the supervised network", "another --seed, and look at the images and masks")
    with Progress("supervised", total=config.iterations, unit="batches", done=0) as progress:
        for iteration in range(1, config.iterations + 1):
            picks = torch.randint(len(x), (config.batch_size,), generator=generator)
            x_NCHW, target_NHW = augment(x[picks], target[picks], task, config.augmentation, generator)
            loss = _step(network, optimizer, x_NCHW.to(device), target_NHW.to(device), config.dice)
            if (target_NHW != UNLABELLED).any():  # else its loss is 0 / 0
                watch.see(loss)
            schedule.step()
            progress.at(iteration, loss=loss)
    return network.eval()


def learning_rate_factor(iteration: int, iterations: int) -> float:
    """Linear warm-up, then a cosine decay to zero."""
    return min(1.0, (iteration + 1) / WARMUP_ITERATIONS) * (1 + math.cos(math.pi * iteration / iterations)) / 2


def usable_labels(labels: NDArray[np.uint8], task: Task) -> NDArray[np.uint8]:
    """`labels` with the ignored class marked `UNLABELLED`."""
    return labels if task.ignore_label is None else np.where(labels == task.ignore_label, np.uint8(UNLABELLED), labels)


@torch.inference_mode()
def label_images(network: PlainUNet, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Class ids (N, S, S) uint8 of `images` (N, S, S, 3) uint8."""
    device = next(network.parameters()).device
    return network(to_network(images, device)).argmax(dim=1).to(torch.uint8).cpu().numpy()


def _step(
    network: nn.Module, optimizer: torch.optim.Optimizer, x_NCHW: Tensor, target_NHW: Tensor, dice: float
) -> Tensor:
    """One step on one batch; returns its loss before the step."""
    # bfloat16 is 1.6 times as fast on a CPU with AVX512-BF16, and takes 12 times as long with AVX2 alone.
    with torch.autocast(x_NCHW.device.type, torch.bfloat16, enabled=has_bfloat16(x_NCHW.device)):
        logits_NKHW = network(x_NCHW.contiguous(memory_format=torch.channels_last)).float()
        loss = F.cross_entropy(logits_NKHW, target_NHW.long(), ignore_index=UNLABELLED)
        if dice:
            loss = loss + dice * dice_loss(logits_NKHW, target_NHW)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    return loss.detach()


def dice_loss(logits_NKHW: Tensor, target_NHW: Tensor) -> Tensor:
    """Soft Dice loss (Milletari et al., 2016) in [0, 1], over all pixels of a batch, with equal weight per class.

    Cross-entropy alone neglects small parts: a nose is three pixels in a thousand.
    """
    known_NHW = target_NHW != UNLABELLED
    p_NKHW = logits_NKHW.softmax(dim=1) * known_NHW[:, None]
    truth_NHWK = F.one_hot(target_NHW.where(known_NHW, 0).long(), logits_NKHW.shape[1]) * known_NHW[..., None]
    truth_NKHW = truth_NHWK.permute(0, 3, 1, 2)
    both_K = (p_NKHW * truth_NKHW).sum(dim=(0, 2, 3))
    sizes_K = p_NKHW.sum(dim=(0, 2, 3)) + truth_NKHW.sum(dim=(0, 2, 3))
    # Adding 1 avoids dividing by zero for a class that is not in the batch.
    return 1 - ((2 * both_K + 1) / (sizes_K + 1)).mean()
