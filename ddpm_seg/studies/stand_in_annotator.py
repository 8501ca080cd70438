"""Annotates samples in place of a person, with a supervised network trained on many annotated images.

DatasetDDPM trains its ensemble on a few generated images that people have annotated. For repeatable measurements, this
network annotates them instead.
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ddpm_seg import storage
from ddpm_seg.data.annotations.load import load_annotations
from ddpm_seg.data.annotations.task_file import find_task
from ddpm_seg.data.schema import IMAGE
from ddpm_seg.data.table_pictures import picture_cell, row_image
from ddpm_seg.evaluation.tables.curation import read_samples
from ddpm_seg.model.device.choice import default_device
from ddpm_seg.runs.parquet import encode
from ddpm_seg.studies.annotate_config import AnnotateConfig
from ddpm_seg.training.rivals.supervised import SupervisedConfig, label_images, train_supervised

logger = logging.getLogger(__name__)

BATCH = 32


def annotate(config: AnnotateConfig, training: SupervisedConfig | None = None) -> int:
    """Trains the network, writes the samples with its masks, and returns how many samples there are.

    Before any training, raises ValueError (`AnnotationError`) or OSError for what the user can correct.
    """
    task = find_task(config.task)
    uris, images = _samples(config)
    plenty = load_annotations(config.plenty, image_size=images.shape[1], task=task)
    storage.check_writable(config.output.rpartition("/")[0])
    network = train_supervised(
        np.stack([annotation.image for annotation in plenty]),
        np.stack([annotation.label for annotation in plenty]),
        task,
        training or SupervisedConfig(seed=config.seed),
        default_device(),
    )
    masks = np.concatenate([label_images(network, images[start:][:BATCH]) for start in range(0, len(images), BATCH)])
    table = pa.table(
        {
            "uri": uris,
            "image": pa.array(list(map(picture_cell, images)), IMAGE),
            "mask": pa.array(list(map(picture_cell, masks)), IMAGE),
        }
    )
    storage.write_bytes(config.output, encode(table))
    return len(images)


def _samples(config: AnnotateConfig) -> tuple[list[str], NDArray[np.uint8]]:
    """The samples' names, and their images (N, S, S, 3) uint8."""
    rows = read_samples(
        config.samples,
        config_hash=config.config_hash,
        columns=["uri", "status", "width", "height", "image"],
        curated=False,
    )
    rows = rows.filter(pc.equal(rows["status"], "ok")).slice(0, config.limit)
    if not rows.num_rows:
        raise ValueError(f"there are no samples to annotate at {config.samples}")
    names: list[Any] = rows["uri"].to_pylist()
    return names, np.stack([row_image(row) for row in rows.to_pylist()])
