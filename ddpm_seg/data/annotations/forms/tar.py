"""Reads masks from tars in WebDataset's layout, with the images beside them, or named as our own exports name them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from numpy.typing import NDArray

from ddpm_seg import storage
from ddpm_seg.data.annotations.errors import AnnotationError
from ddpm_seg.data.annotations.forms.mask_files import MAX_MASK_BYTES, merged, read_npy, read_png
from ddpm_seg.data.annotations.image_places import ImagePlaces
from ddpm_seg.data.annotations.pair import Pair, image_pair, shown
from ddpm_seg.data.decoding.formats import EXTENSIONS
from ddpm_seg.data.inputs.sources import damage_named, read_image
from ddpm_seg.data.inputs.tar_container import TarContainer
from ddpm_seg.data.inputs.tar_samples import split_name
from ddpm_seg.tasks import Task

MASKS = ("mask.png", "mask.npy")
MAX_JSON_BYTES = 1 << 20


@dataclass(slots=True)
class _Sample:
    """The members of a tar that belong to one image; empty where there is none."""

    image: str = ""
    mask: str = ""
    about: dict[str, Any] = field(default_factory=dict)


def pairs_of_tar(uri: str, task: Task, image_root: str | None = None) -> list[Pair]:
    """Pairs of `KEY.jpg` (or .png, …) and `KEY.mask.png` or `KEY.mask.npy`.

    Where there is no image, it is the one that `uri` in `KEY.json` names, as `ddpm-seg export --to webdataset` writes
    it; the class names there must be the task's. Raises AnnotationError for a damaged tar and for masks or images
    without a partner.
    """
    places, pairs = ImagePlaces(uri, image_root), []
    samples = _samples(uri)
    bare = [f"{uri}#{one.image}" for one in samples.values() if one.image and not one.mask]
    if bare:
        raise AnnotationError(
            f"{len(bare)} of {len(samples)} images have no mask: {shown(bare)}; "
            "expected KEY.mask.png or KEY.mask.npy beside KEY.jpg in the tar"
        )
    for key, sample in samples.items():
        if sample.mask:
            pairs.append(_pair(uri, key, sample, task, places))
    if not pairs:
        raise AnnotationError(f"{storage.redact(uri)} holds no masks; expected KEY.mask.png or KEY.mask.npy in the tar")
    return sorted(pairs, key=lambda pair: pair.image)


def _pair(uri: str, key: str, sample: _Sample, task: Task, places: ImagePlaces) -> Pair:
    mask = f"{uri}#{sample.mask}"
    read_mask = partial(_read_mask, mask, task)
    if sample.image:
        return image_pair(f"{uri}#{sample.image}", mask, read_mask)
    named = sample.about.get("uri")
    if not isinstance(named, str):
        raise AnnotationError(
            f"{storage.redact(mask)} has no image; expected {key}.jpg beside it, or {key}.json with its uri"
        )
    if not task.merge:
        _check_names(mask, sample.about.get("classes"), task)
    return places.pair([named], mask, read_mask)


def _samples(uri: str) -> dict[str, _Sample]:
    """The samples of a tar by key; `?2` after the key of one whose members' names come a second time."""
    samples: dict[str, _Sample] = {}
    with damage_named(uri), storage.open_file(uri) as file:
        try:
            tar = TarContainer(file)
            for member in tar.all_members():
                name, (key, rest) = member.name, split_name(member.name)
                sample, rest = samples.setdefault(key, _Sample()), rest.lower()
                if rest in MASKS:
                    sample.mask = name
                elif f".{rest}" in EXTENSIONS:
                    sample.image = sample.image or name
                elif rest == "json":
                    sample.about = _about(tar.read(name, MAX_JSON_BYTES))
        except ValueError as error:
            raise AnnotationError(f"{storage.redact(uri)}: {error}") from error
    return samples


def _about(data: bytes) -> dict[str, Any]:
    """What a sample's JSON says; nothing if it is too long or no object."""
    try:
        found = json.loads(data) if len(data) <= MAX_JSON_BYTES else {}
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _check_names(mask: str, classes: object, task: Task) -> None:
    """Raises AnnotationError if the ids in a mask of another task would pass, but mean other classes."""
    for one in classes if isinstance(classes, list) else []:
        number, name = (one.get("class_id"), one.get("class_name")) if isinstance(one, dict) else (None, None)
        if not isinstance(number, int) or not isinstance(name, str):
            continue
        if not 0 <= number < task.num_classes or task.class_names[number] != name:
            raise AnnotationError(
                f"{storage.redact(mask)} shows {name!r} as class {number}, which {task.name} does not; "
                "give the task that it was made with"
            )


def _read_mask(uri: str, task: Task, image_height: int, image_width: int) -> NDArray[Any]:
    data, _ = read_image(uri, max_bytes=MAX_MASK_BYTES)
    if split_name(uri.rpartition("/")[2])[1].lower().endswith("npy"):
        return merged(read_npy(data, image_height, image_width), task)
    return read_png(data, task, image_height, image_width)
