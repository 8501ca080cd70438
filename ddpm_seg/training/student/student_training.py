"""Trains a student as published: cross-entropy over whole images, with Adam."""

# Shapes: B images of S x S pixels, K classes.

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ddpm_seg.cluster.training_workers import Worker
from ddpm_seg.model.bundle.student_bundle import AnyStudent
from ddpm_seg.model.device.copies import to_device
from ddpm_seg.model.device.processor import prepare
from ddpm_seg.model.networks.pixel_values import from_network, to_imagenet, to_network
from ddpm_seg.model.networks.student import Student, backbone_weights
from ddpm_seg.tasks import UNLABELLED, Task
from ddpm_seg.training.augmentation import Augmentation, augment
from ddpm_seg.training.divergence import Watch
from ddpm_seg.training.optimization import StudentOptimization
from ddpm_seg.training.rivals.supervised import dice_loss
from ddpm_seg.training.saving import Saving
from ddpm_seg.training.student.sample_stream import Batch
from ddpm_seg.training.unfinished import refuse_other_settings, restoring, write_state

logger = logging.getLogger(__name__)

USUAL = Augmentation(rotation=10, scale=0.25, shift=0.1, brightness=0.1, contrast=0.2, saturation=0.3, hue=15)


class StudentTraining:
    """A student in training: weights, optimiser state, the epochs' scores and the weights of the best epoch."""

    def __init__(
        self,
        config: AnyStudent,
        options: StudentOptimization,
        worker: Worker,
        *,
        task: Task,
        settings: Mapping[str, Any],
        classifier: Mapping[str, Tensor] | None = None,
    ) -> None:
        """`settings` must equal those of a state to resume; `classifier` is a state dict to initialise the backbone
        with. Raises ValueError if that belongs to another network."""
        torch.manual_seed(options.seed)
        prepare(worker.device, options.precision)
        self.options, self.worker, self.task = options, worker, task
        self.settings = {"student": asdict(config), **asdict(options), **settings}
        self.student = config.build()
        if classifier is not None and isinstance(self.student, Student):
            self.student.backbone.load_state_dict(backbone_weights(classifier, self.student.config))
        self.dice = 0.0 if isinstance(self.student, Student) else 1.0
        """Weight of the Dice loss, which the published student does without."""
        self.student.to(worker.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.network = worker.parallel(self.student) if worker.parallel else self.student
        self.optimizer = torch.optim.Adam(self.student.parameters(), lr=options.learning_rate)
        self.epochs: list[dict[str, float | None]] = []
        """For each finished epoch: mean `loss`, and `miou` on the validation images, None without them."""
        self.watch = Watch("the student", "a lower --learning-rate or --precision float32, and look at the samples")
        self.best: dict[str, Tensor] = {}
        self.losses: list[Tensor] = []
        """Losses so far of the batches of the current epoch."""

    def train_epoch(
        self, batches: Iterable[Batch], show: Callable[[Tensor], None], saving: Saving | None = None
    ) -> float:
        """One pass over `batches`, skipping those that a restored state has already done; returns the mean loss.

        `show` receives each batch's loss; `saving` saves between batches.
        """
        self.network.train()
        for number, (images, labels) in enumerate(batches):
            if number < len(self.losses):
                continue
            with saving.step() if saving else nullcontext():
                loss = self._step(*self._prepared(images, labels, self._seeded(number)))
                # Without a labelled pixel in the batch, the mean loss is 0 / 0.
                known = bool((labels != UNLABELLED).any())
                if known:
                    self.watch.see(loss)
                self.losses.append(loss)
            if known:
                show(loss)
        # Only the weights show whether the last update, and those of other workers, were finite.
        self.watch.see(torch.stack([parameter.detach().norm() for parameter in self.student.parameters()]).sum())
        self.watch.look()
        return float(torch.stack(self.losses).nanmean())

    def finish_epoch(self, loss: float, miou: float | None) -> None:
        """Records an epoch's loss and score, and keeps its weights if no earlier epoch scored as high."""
        scores = [one["miou"] for one in self.epochs if one["miou"] is not None]
        if miou is None or not scores or miou > max(scores):
            self.best = {key: value.detach().cpu().clone() for key, value in self.student.state_dict().items()}
        # JSON has no NaN, which is the loss of an epoch without labelled pixels.
        self.epochs.append({"loss": None if math.isnan(loss) else loss, "miou": miou})
        self.losses = []

    @torch.inference_mode()
    def label(self, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Class ids (B, S, S) uint8 of `images` (B, S, S, 3) uint8."""
        self.student.eval()
        x = to_imagenet(images, self.worker.device).contiguous(memory_format=torch.channels_last)
        return self.student(x).argmax(dim=1).to(torch.uint8).cpu().numpy()

    def save(self, uri: str) -> None:
        """Writes everything needed to resume, atomically."""
        self.watch.look()
        modules = {"student": self.student.state_dict(), "optimizer": self.optimizer.state_dict()}
        about = {"settings": self.settings, "epochs": self.epochs, "losses": [float(loss) for loss in self.losses]}
        write_state(uri, {**about, "best": self.best, **modules})

    def resume(self, uri: str) -> None:
        """Restores a saved state. Raises ValueError if it is damaged, or if any setting but the number of epochs
        differs."""
        with restoring(uri) as state:
            needed = {name: value for name, value in self.settings.items() if name != "epochs"}
            refuse_other_settings(uri, state["settings"], needed)
            self.student.load_state_dict(state["student"])
            self.optimizer.load_state_dict(state["optimizer"])
            best, last = ({key: one.shape for key, one in state[name].items()} for name in ("best", "student"))
            if state["epochs"] and best != last:
                raise ValueError("its best weights have other shapes")
            self.epochs, self.best = state["epochs"], state["best"]
            # Earlier versions saved states between epochs only.
            self.losses = [torch.tensor(loss, device=self.worker.device) for loss in state.get("losses", [])]
        done = f" and {len(self.losses)} batches of the next" if self.losses else ""
        logger.info("resumed after epoch %d of %d%s", len(self.epochs), self.options.epochs, done)

    def _seeded(self, number: int) -> torch.Generator:
        """The generator for augmenting a batch. Also seeds torch's global generator, which dropout draws from.

        Both depend on the batch alone, so that a resumed training draws the same numbers.
        """
        seed = ((self.options.seed * 1_000_003 + len(self.epochs)) * 1_000_033 + number) * 1009 + self.worker.rank
        torch.manual_seed(seed % 2**63)
        return torch.Generator().manual_seed(seed % 2**63)

    def _prepared(
        self, images: NDArray[np.uint8], labels: NDArray[np.uint8], generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        target = torch.from_numpy(np.ascontiguousarray(labels))
        if self.options.augment:
            changed, target = augment(to_network(images, "cpu"), target, self.task, USUAL, generator)
            images = from_network(changed)
        return to_imagenet(images, self.worker.device), to_device(target, self.worker.device)

    def _step(self, x: Tensor, target: Tensor) -> Tensor:
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.options.precision == "bfloat16"):
            logits = self.network(x.contiguous(memory_format=torch.channels_last)).float()
        loss = F.cross_entropy(logits, target.long(), ignore_index=UNLABELLED)
        if self.dice:
            loss = loss + self.dice * dice_loss(logits, target)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        return loss.detach()
