"""The Parquet schemas of the tables that users read."""

from __future__ import annotations

import json
import math
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ddpm_seg.tasks import Task

SCHEMA_VERSION = 1
METADATA_KEY = b"ddpm_seg"

Metadata: TypeAlias = dict[bytes | str, bytes | str]

# The struct that Hugging Face `datasets` reads as an Image: encoded bytes, and a path, which is empty here.
IMAGE = pa.struct([pa.field("bytes", pa.binary()), pa.field("path", pa.string())])

_CLASS_FIELDS: list[pa.Field[Any]] = [
    pa.field("class_id", pa.int32()),
    pa.field("class_name", pa.string()),
    pa.field("pixels", pa.int64()),
    pa.field("fraction", pa.float64()),
    pa.field("mean_confidence", pa.float32()),
    pa.field("mean_uncertainty", pa.float32()),
    pa.field("components", pa.int32()),
    pa.field("bbox", pa.list_(pa.float32())),  # x, y, width, height in pixels of the image itself
]

_LABEL_FIELDS: list[pa.Field[Any]] = [
    pa.field("image_id", pa.string()),
    pa.field("uri", pa.string()),
    pa.field("etag", pa.string()),
    pa.field("size_bytes", pa.int64()),
    pa.field("status", pa.string()),
    pa.field("error_type", pa.string()),
    pa.field("error_message", pa.string()),
    pa.field("width", pa.int32()),
    pa.field("height", pa.int32()),
    pa.field("mask", IMAGE),
    pa.field("uncertainty", pa.float32()),
    pa.field("mean_confidence", pa.float32()),
    pa.field("classes", pa.list_(pa.struct(_CLASS_FIELDS))),
    pa.field("model_id", pa.string()),
    pa.field("config_hash", pa.string()),
    pa.field("code_version", pa.string()),
    pa.field("run_id", pa.string()),
    pa.field("created_at", pa.timestamp("us", tz="UTC")),
]

DOMAIN_DISTANCE: pa.Field[Any] = pa.field("domain_distance", pa.float32())

_SAMPLE_FIELDS: list[pa.Field[Any]] = [
    pa.field("seed", pa.int64()),
    pa.field("number", pa.int64()),
    pa.field("sampler", pa.string()),
    pa.field("sampling_steps", pa.int32()),
    pa.field("image", IMAGE),
]

_CLASS_STATS_IMAGE_FIELDS = [field for field in _LABEL_FIELDS if field.name in ("image_id", "uri")]
_CLASS_STATS_RUN_FIELDS = [field for field in _LABEL_FIELDS if field.name in ("config_hash", "run_id")]


MAPS = ("confidence_map", "network_mask")
"""Pictures that `labels` has where they were asked for: each pixel's confidence (H, W) in 255ths, and the network's
labels of the image's part of its canvas (h, w)."""


def labels_schema(task: Task, *, maps: bool = False, domain: bool = False) -> pa.Schema:
    """`labels`: one row per input image. The metadata says which columns are pictures and what the class ids mean.

    `domain` adds the column `domain_distance` (`data.domain`), which runs have whose model knows its training images.
    """
    pictures = ["mask", *(MAPS if maps else ())]
    place = [field.name for field in _LABEL_FIELDS].index("mask") + 1
    fields = [*_LABEL_FIELDS[:place], *(pa.field(name, IMAGE) for name in pictures[1:]), *_LABEL_FIELDS[place:]]
    if domain:
        fields.insert([field.name for field in fields].index("mean_confidence") + 1, DOMAIN_DISTANCE)
    return pa.schema(fields, metadata={**image_features(*pictures), METADATA_KEY: _task_json(task)})


def samples_schema(task: Task | None) -> pa.Schema:
    """`samples`: one row per generated image. Like `labels`, plus the image and how it was drawn; `uri` is only a name.
    Without an ensemble (`task` None), all columns about labels are null."""
    fields = [field for field in _LABEL_FIELDS if field.name not in ("etag", "size_bytes")]
    place = [field.name for field in fields].index("status")
    fields = [*fields[:place], *_SAMPLE_FIELDS, *fields[place:]]
    fields.insert([field.name for field in fields].index("mask") + 1, pa.field("uncertainty_map", IMAGE))
    pictures = image_features("image", "mask", "uncertainty_map")
    return pa.schema(fields, metadata=pictures | ({METADATA_KEY: _task_json(task)} if task else {}))


def uncertainty_map(uncertainty: NDArray[np.float32], num_classes: int) -> NDArray[np.uint8]:
    """Jensen-Shannon divergence (S, S) in nats as uint8, scaled so that 255 is its maximum, ln(num_classes)."""
    return (255 * np.clip(uncertainty / math.log(num_classes), 0, 1)).round().astype(np.uint8)


def uncertainty_of(stored: NDArray[np.uint8], schema: pa.Schema) -> NDArray[np.float64]:
    """Nats, float64 (S, S), from an `uncertainty_map` in a table of this schema."""
    return stored / 255 * math.log(task_of(schema).num_classes)


def class_stats_table(labels: pa.Table) -> pa.Table:
    """`class_stats`: one row per image and class, from the statistics nested in a `labels` table, in its order."""
    classes = classes_of(labels)
    image_of_row = classes.value_parent_indices()
    statistics = dict(zip([field.name for field in _CLASS_FIELDS], pc.list_flatten(classes).flatten(), strict=True))
    fields = [*_CLASS_STATS_IMAGE_FIELDS, *_CLASS_FIELDS, *_CLASS_STATS_RUN_FIELDS]
    columns = [
        statistics[field.name] if field.name in statistics else labels[field.name].take(image_of_row)
        for field in fields
    ]
    metadata = labels.schema.metadata or {}
    kept: Metadata | None = {METADATA_KEY: metadata[METADATA_KEY]} if METADATA_KEY in metadata else None
    return pa.table(columns, schema=pa.schema(fields, metadata=kept))


def classes_of(rows: pa.Table) -> pa.ListArray[Any]:
    """The column `classes` of some rows, as one array."""
    classes: Any = rows["classes"].combine_chunks()
    if isinstance(classes, pa.ChunkedArray):  # newer pyarrow returns a ChunkedArray if there are no chunks
        classes = pa.concat_arrays(classes.chunks) if classes.num_chunks else pa.array([], classes.type)
    return classes


def task_of(schema: pa.Schema) -> Task:
    """The task that `labels_schema` stored. Raises ValueError if the schema has none."""
    metadata = schema.metadata or {}
    if METADATA_KEY not in metadata:
        raise ValueError("the table has no 'ddpm_seg' metadata: it was not written by this project")
    values = json.loads(metadata[METADATA_KEY])
    values.pop("schema_version", None)
    name = values.pop("task")
    return Task.from_dict({**values, "name": name})


def image_features(*columns: str) -> Metadata:
    # `datasets` uses these types for the columns named here, and infers the others from the Arrow types.
    features = {column: {"_type": "Image"} for column in columns}
    return {b"huggingface": json.dumps({"info": {"features": features}}).encode()}


def _task_json(task: Task) -> bytes:
    values = task.to_dict()
    return json.dumps({"schema_version": SCHEMA_VERSION, "task": values.pop("name"), **values}, sort_keys=True).encode()
