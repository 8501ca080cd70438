"""Annotated images with their features: small ensembles are trained on some of them and scored on others."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from ddpm_seg.data.annotations.load import Annotation, labelled_pixels
from ddpm_seg.evaluation.scores.metrics import usual_ious
from ddpm_seg.evaluation.scores.miou import confusion_matrix
from ddpm_seg.tasks import Task
from ddpm_seg.training.ensemble.ensemble_training import EnsembleConfig, train_members
from ddpm_seg.training.ensemble.members import mean_softmax
from ddpm_seg.training.ensemble.pixel_features import PixelFeatures

Members = list[Mapping[str, torch.Tensor]]


class Pool:
    """See the module. Images are known by their numbers."""

    def __init__(self, maps: PixelFeatures, images: list[Annotation], task: Task, training: EnsembleConfig) -> None:
        self.maps, self.images, self.task, self.training = maps, images, task, training
        self.size = images[0].label.size

    def trained(self, numbers: list[int]) -> Members:
        """The members of an ensemble trained on these images."""
        pixels, classes = labelled_pixels([self.images[number].label for number in numbers], self.task)
        own = torch.from_numpy(np.asarray(numbers)[pixels // self.size] * self.size + pixels % self.size)
        labels = torch.from_numpy(classes).long()
        return [one.weights for one in train_members(self.maps, own, labels, self.task.num_classes, self.training)]

    def probabilities(self, members: Members, number: int) -> NDArray[np.float32]:
        """Mean probabilities (P, K) of an image's pixels."""
        x_PD = self.maps.gather(torch.arange(number * self.size, (number + 1) * self.size))
        return mean_softmax(members, x_PD).numpy()

    def ious(self, members: Members, numbers: list[int]) -> NDArray[np.float64]:
        """IoU by class over these images."""
        total = np.zeros((self.task.num_classes + 1,) * 2, np.int64)
        for number in numbers:
            label = self.probabilities(members, number).argmax(axis=1).astype(np.uint8)
            total += confusion_matrix(label, self.images[number].label.ravel(), self.task.num_classes)
        return usual_ious(total, self.task.ignore_label)
