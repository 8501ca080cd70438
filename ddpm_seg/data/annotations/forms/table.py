"""Reads masks from a Parquet table, such as our `labels`."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ddpm_seg import storage
from ddpm_seg.data.annotations.errors import AnnotationError, MaskError
from ddpm_seg.data.annotations.forms.mask_files import MAX_MASK_BYTES, read_png
from ddpm_seg.data.annotations.image_places import ImagePlaces
from ddpm_seg.data.annotations.pair import Pair, missing_pair
from ddpm_seg.data.inputs import sources
from ddpm_seg.data.inputs.labelled_image import VERSION, read_labelled
from ddpm_seg.data.schema import METADATA_KEY, task_of
from ddpm_seg.tasks import Task


def pairs_of_table(uri: str, task: Task, image_root: str | None = None) -> list[Pair]:
    """Pairs for the rows with status "ok", or for all rows if there is no `status` column.

    `image` and `mask` are structs of `bytes` and `path`, as Hugging Face writes them, or bytes, or file names. Without
    `image`, the row's `uri` is read. An image whose bytes are in the table, without a `uri`, has the URI of its row,
    `a.parquet#7`: several may have the same `path`, which only sorts them.
    """
    rows, task = _rows(uri, task)
    places, pairs, paths = ImagePlaces(uri, image_root), [], {}
    for number, row in enumerate(rows):
        if row.get("status") in (None, "ok"):
            name, member = f"{storage.redact(uri)}, row {number}", f"{uri}#{number}"
            own_image = member if sources.is_in_container(member) else name  # over http(s) there are no containers
            pairs.append(pair_of_row(name, row, task, places, own_image))
            _, paths[own_image] = _cell(row.get("image"), f"{name}, image")
    if not pairs:
        raise AnnotationError(
            f"{storage.redact(uri)} holds no annotated images: none of its {len(rows)} rows has a mask"
        )
    return sorted(pairs, key=lambda pair: paths.get(pair.image) or pair.image)


def _rows(uri: str, task: Task) -> tuple[list[dict[str, Any]], Task]:
    """The table's rows, and the task by which their masks are read."""
    try:
        with storage.open_file(uri) as file, pq.ParquetFile(file, page_checksum_verification=True) as parquet:
            names = parquet.schema_arrow.names
            if "mask" not in names or not {"uri", "image"} & set(names):
                raise AnnotationError(
                    f"{storage.redact(uri)} has the columns {', '.join(names)}; expected mask, and uri or image"
                )
            if METADATA_KEY in (parquet.schema_arrow.metadata or {}):
                task = reading_task(uri, task_of(parquet.schema_arrow), task)
            wanted = [name for name in ("uri", *VERSION, "image", "mask", "status") if name in names]
            return parquet.read(columns=wanted).to_pylist(), task
    except (pa.ArrowException, ValueError, OSError) as error:
        # For a damaged file Arrow raises a bare OSError; the store raises a subclass, or one with an errno.
        if isinstance(error, AnnotationError) or (isinstance(error, OSError) and _is_of_the_store(error)):
            raise
        reason = " ".join(str(error).split())
        raise AnnotationError(f"{storage.redact(uri)} is not a Parquet file that can be read: {reason}") from None


def reading_task(uri: str, own: Task, task: Task) -> Task:
    """`task`, with a `merge` that maps the ids in masks of our own tables, whose task is `own`.

    Raises AnnotationError if `own` has a class that is neither one of `task` nor merged into one: its ids would pass,
    but mean other classes.
    """
    if own.class_names == task.class_names:
        return replace(task, merge=())
    if task.merge and set(own.class_names) <= set(task.ids):
        names = [task.class_names[task.ids[name]] for name in own.class_names]
        return replace(task, merge=tuple((str(index), name) for index, name in enumerate(names)))
    raise AnnotationError(
        f"{storage.redact(uri)} holds masks of the task {own.name} ({', '.join(own.class_names[:5])}, ...), not of "
        f"{task.name} ({', '.join(task.class_names[:5])}, ...)"
    )


def _is_of_the_store(error: OSError) -> bool:
    return type(error) is not OSError or error.errno is not None


def pair_of_row(name: str, row: dict[str, Any], task: Task, places: ImagePlaces, own_image: str = "") -> Pair:
    """The pair in a row with `mask`, and `uri` or `image`; messages call it `name`. `own_image` is the URI of an image
    whose bytes are in the row."""
    image_bytes, image_path = _cell(row.get("image"), f"{name}, image")
    mask_bytes, mask_path = _cell(row.get("mask"), f"{name}, mask")
    uri = row.get("uri") if isinstance(row.get("uri"), str) else None
    names = [one for one in (uri, image_path if image_bytes is None else own_image) if one] or [name]
    if mask_bytes is None and mask_path is None:
        return missing_pair(names[0], name, f"{name} has no mask; expected the bytes of a PNG")
    read_mask = partial(_read_mask, mask_bytes, mask_path, places, task)
    if image_bytes is None:
        pair = places.pair(names, name, read_mask)
        is_labelled = uri is not None and pair.image == sources.normalize(uri)
        return replace(pair, read_image=partial(read_labelled, pair.image, row)) if is_labelled else pair
    mask = f"{name} ({image_path})" if image_path and not uri else name
    return Pair(image=names[0], mask=mask, read_image=partial(bytes, image_bytes), read_mask=read_mask)


def _cell(value: Any, name: str) -> tuple[bytes | None, str | None]:
    """(bytes, path) of a cell with a picture; (None, None) if it is empty."""
    if isinstance(value, dict):
        data, path = value.get("bytes"), value.get("path")
    else:
        data, path = (value, None) if isinstance(value, bytes) else (None, value)
    if not isinstance(data, bytes | None) or not isinstance(path, str | None):
        raise AnnotationError(
            f"{name} has type {type(value).__name__}; expected bytes, a file name, or a struct with bytes and path"
        )
    return data or None, path or None


def _read_mask(
    data: bytes | None, path: str | None, places: ImagePlaces, task: Task, image_height: int, image_width: int
) -> NDArray[Any]:
    if data is None:
        found = places.find([str(path)])
        if found is None:
            raise MaskError(f"names the mask {path}, which is not in {places}")
        data = storage.read_bytes(found, max_bytes=MAX_MASK_BYTES)
    return read_png(data, task, image_height, image_width)
