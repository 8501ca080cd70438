"""Masks in a Parquet table, such as our `labels`."""

from __future__ import annotations

from collections import Counter
from functools import partial

import pyarrow.parquet as pq

from ddpm_seg import storage
from ddpm_seg.data.annotations.mask_files import read_png
from ddpm_seg.data.annotations.pair import AnnotationError, Pair, read_image_file, shown
from ddpm_seg.tasks import Task


def pairs_of_table(uri: str, task: Task) -> list[Pair]:
    """Rows whose status, where the table has one, is ok; images stand in the table or are read from their URI."""
    with storage.open_file(uri) as file, pq.ParquetFile(file) as parquet:
        names = parquet.schema_arrow.names
        if "mask" not in names or not {"uri", "image"} & set(names):
            raise AnnotationError(
                f"{storage.redact(uri)} has the columns {', '.join(names)}; expected mask, and uri or image"
            )
        wanted = [name for name in ("uri", "image", "mask", "status") if name in names]
        rows = parquet.read(columns=wanted).to_pylist()
    pairs = []
    for number, row in enumerate(rows):
        if row.get("status", "ok") != "ok":
            continue
        name = f"{storage.redact(uri)}, row {number}"
        image, mask = row.get("uri") or name, (row["mask"] or {}).get("bytes")
        if mask is None:
            raise AnnotationError(f"{name} has no mask; expected a struct with the bytes of a PNG")
        embedded = (row.get("image") or {}).get("bytes")
        pairs.append(
            Pair(
                image=image,
                mask=name,
                read_image=partial(bytes, embedded) if embedded else partial(read_image_file, image),
                read_mask=partial(read_png, mask, task),
            )
        )
    if not pairs:
        raise AnnotationError(
            f"{storage.redact(uri)} holds no annotated images: none of its {len(rows)} rows has a mask"
        )
    if twice := [image for image, count in Counter(pair.image for pair in pairs).items() if count > 1]:
        raise AnnotationError(
            f"{storage.redact(uri)} holds {shown(twice[:1])} more than once; keep one row an image "
            "(ddpm_seg.read_labels gives the latest)"
        )
    return sorted(pairs, key=lambda pair: pair.image)
