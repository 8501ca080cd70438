"""Which annotated images a URI stands for: files beside each other, two folders, a Parquet table, or a tool's JSON."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow.parquet as pq

from ddpm_seg import storage
from ddpm_seg.data.images import DEFAULT_LIMITS, EXTENSIONS
from ddpm_seg.data.mask_files import MAX_MASK_BYTES, read_npy, read_png
from ddpm_seg.tasks import Task


class AnnotationError(ValueError):
    """Annotations that cannot be used; the message names the file and what to change."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """An image and its mask, not read yet."""

    image: str
    """URI of the image."""
    mask: str
    """What messages call the mask."""
    read_image: Callable[[], bytes]
    """The image file's bytes; OSError where it cannot be read."""
    read_mask: Callable[[], np.ndarray]
    """Class ids (H, W), integers; `MaskError` or OSError where there are none."""


def find_pairs(uri: str, task: Task) -> list[Pair]:
    """Every annotated image that `uri` stands for, sorted by URI.

    * a folder or prefix: `X.png` (or .jpg, ...) beside `X.npy`, as published; or a folder `images/` with `X.jpg` and a
      folder `masks/` with `X.png` or `X.npy`;
    * a `.parquet` file: rows of `uri` or an `image` struct, and a `mask` struct, such as our `labels`;
    * a `.json` file: COCO, panoptic or with polygons or run lengths, or Label Studio's export of brush labels; their
      categories and labels are classes by name.

    Raises `AnnotationError` where there are none or a partner is missing.
    """
    uri = storage.normalize(uri)
    if uri.lower().endswith(".parquet"):
        return _pairs_of_table(uri, task)
    if uri.lower().endswith(".json"):
        return _pairs_of_json(uri, task)
    return _pairs_of_files(uri, task)


def image_pair(image: str, mask: str, read_mask: Callable[[], np.ndarray]) -> Pair:
    """A pair whose image is a file of its own."""
    return Pair(image=image, mask=mask, read_image=partial(read_image_file, image), read_mask=read_mask)


def read_image_file(uri: str) -> bytes:
    """Bytes of an image file within the limits."""
    return storage.read_bytes(uri, max_bytes=DEFAULT_LIMITS.max_bytes)


def _pairs_of_json(uri: str, task: Task) -> list[Pair]:
    from ddpm_seg.data.coco import coco_pairs  # both make pairs of what is here
    from ddpm_seg.data.label_studio import is_label_studio, label_studio_pairs

    try:
        content = json.loads(storage.read_bytes(uri))
    except ValueError as error:
        raise AnnotationError(f"{storage.redact(uri)} is not JSON ({error})") from None
    return label_studio_pairs(uri, content, task) if is_label_studio(content) else coco_pairs(uri, content, task)


def _pairs_of_files(uri: str, task: Task) -> list[Pair]:
    files = [file.uri for file in storage.list_files(uri)]
    image_folder, mask_folder = storage.join(uri, "images"), storage.join(uri, "masks")
    if any(file.startswith(mask_folder + "/") for file in files):
        images, masks = _by_stem(files, image_folder, EXTENSIONS), _by_stem(files, mask_folder, (".png", ".npy"))
        expected = "X.png in masks/ and X.jpg in images/"
    else:
        images, masks = _by_stem(files, uri, EXTENSIONS), _by_stem(files, uri, (".npy",))
        expected = "X.npy beside X.png"
    if not images and not masks:
        raise AnnotationError(
            f"{storage.redact(uri)} holds no annotated images; expected X.png beside X.npy, "
            "or the folders images/ and masks/"
        )
    _refuse_bare("images", "mask", images, masks, expected)
    _refuse_bare("masks", "image", masks, images, expected)
    return [
        image_pair(images[stem], masks[stem], partial(_read_mask_file, masks[stem], task)) for stem in sorted(images)
    ]


def _by_stem(files: Iterable[str], folder: str, suffixes: Collection[str]) -> dict[str, str]:
    """Of the files below `folder` with one of the `suffixes`: URI by path there, without the suffix."""
    found: dict[str, str] = {}
    for file in files:
        stem, dot, suffix = file.removeprefix(folder + "/").rpartition(".")
        if file.startswith(folder + "/") and dot + suffix.lower() in suffixes:
            if stem in found:
                raise AnnotationError(f"{_show([found[stem], file])} would share one partner; remove one of them")
            found[stem] = file
    return found


def _refuse_bare(kind: str, partner: str, own: dict[str, str], others: dict[str, str], expected: str) -> None:
    if bare := [own[stem] for stem in sorted(own.keys() - others.keys())]:
        raise AnnotationError(
            f"{len(bare)} of {len(own)} {kind} have no {partner}: {_show(bare)}; "
            f"expected {expected}, so add the {partner}s or move these {kind} elsewhere"
        )


def _read_mask_file(uri: str, task: Task) -> np.ndarray:
    data = storage.read_bytes(uri, max_bytes=MAX_MASK_BYTES)
    return read_npy(data) if uri.lower().endswith(".npy") else read_png(data, task)


def _pairs_of_table(uri: str, task: Task) -> list[Pair]:
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
            f"{storage.redact(uri)} holds {_show(twice[:1])} more than once; keep one row an image "
            "(ddpm_seg.read_labels gives the latest)"
        )
    return sorted(pairs, key=lambda pair: pair.image)


def _show(uris: Iterable[str]) -> str:
    names = [storage.redact(uri) for uri in uris]
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
