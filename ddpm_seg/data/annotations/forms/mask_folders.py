"""Folders of mask files: beside their images, as published and otherwise, or in a folder of their own."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from numpy.typing import NDArray

from ddpm_seg import storage
from ddpm_seg.data.annotations.errors import AnnotationError
from ddpm_seg.data.annotations.forms.class_values import CLASSES, read_labelled_mask, value_labels
from ddpm_seg.data.annotations.forms.mask_files import MAX_MASK_BYTES, merged, read_npy, read_png
from ddpm_seg.data.annotations.pair import Pair, image_pair, shown
from ddpm_seg.data.decoding.formats import EXTENSIONS
from ddpm_seg.data.inputs.hidden import is_hidden_below
from ddpm_seg.tasks import Task

IMAGES = ("images", "img_dir", "imgs", "img", "image", "data")
MASKS = ("masks", "annotations", "ann_dir", "ann", "labels", "masks_machine", "mask", "gt")
"""What tools and published datasets call the two folders. The first name that is there counts."""
MARK = "_mask"
"""What a mask may be called beyond its image's name."""
MASK_SUFFIXES = (".png", ".npy")
EXPECTED = "X.npy beside X.png, X_mask.png beside X.jpg, or the folders images/ and masks/"


@dataclass(frozen=True, slots=True)
class _Files:
    """URIs of images and of masks, by the name that both have; and where a mask is expected, for messages."""

    images: dict[str, str]
    masks: dict[str, str]
    expected: str


def pairs_of_files(uri: str, files: Sequence[str], task: Task) -> list[Pair]:
    """Pairs of an image and the mask of the same name among `files`, all those at `uri`.

    * in one folder, `X.npy` beside `X.png`, as published; or `X_mask.png` or `X.png` beside `X.jpg`;
    * in two, such as `images/` and `masks/` (`IMAGES`, `MASKS`), `X.jpg` and `X.png`, `X_mask.png` or `X.npy`: at `uri`
      or else in its folders, such as `train/` and `val/`. `uri` may also be the images' own folder, `images/train/`.

    Where `_classes.csv` beside masks names their values, these are matched to classes by name. Raises AnnotationError
    if there are none, or a partner is missing.
    """
    if _is_published(uri, files):
        found = [_published(uri, files)]
    else:
        found = [_in_two_folders(*folders, files) for folders in _folders(uri, files)]
        found = found or [_in_one_folder(uri, files) or _in_a_folder_beside(uri, files) or _published(uri, files)]
    if not any(one.images or one.masks for one in found):
        raise AnnotationError(f"{storage.redact(uri)} holds no annotated images; expected {EXPECTED}")
    labels = {file.rpartition("/")[0]: value_labels(file) for file in files if file.endswith(f"/{CLASSES}")}
    return [pair for one in found for pair in _pairs(one, labels, task)]


def _pairs(found: _Files, labels: Mapping[str, Mapping[int, str]], task: Task) -> Iterator[Pair]:
    """`labels`: by folder of masks, what their values are called."""
    images, masks = found.images, found.masks
    refuse_bare("images", "mask", images, masks, found.expected)
    refuse_bare("masks", "image", masks, images, found.expected)
    for stem in sorted(images):
        own = labels.get(masks[stem].rpartition("/")[0], {})
        read_mask = partial(_read_mask_file, masks[stem], own, task)
        yield image_pair(images[stem], masks[stem], read_mask, drawn=bool(own))


def _is_published(uri: str, files: Sequence[str]) -> bool:
    """Whether arrays lie elsewhere than in a folder of masks."""
    arrays = [file.removeprefix(f"{uri}/") for file in files if file.lower().endswith(".npy")]
    has_masks = any(file.startswith(storage.join(uri, MASKS[0]) + "/") for file in files)
    return not has_masks and any(set(MASKS).isdisjoint(path.split("/")[:-1]) for path in arrays)


def _published(uri: str, files: Sequence[str]) -> _Files:
    masks = by_stem(files, uri, (".npy",))
    return _Files(by_stem(files, uri, EXTENSIONS), masks, "X.npy beside X.png" if masks else EXPECTED)


def _folders(uri: str, files: Sequence[str]) -> list[tuple[str, str]]:
    """The folders of images and of masks: those at `uri`, else those in each of its folders."""
    images = _named_folders(uri, files, IMAGES, tuple(EXTENSIONS))
    masks = _named_folders(uri, files, MASKS, MASK_SUFFIXES)
    pairs = {parent: (images.get(parent, parent), masks[parent]) for parent in masks}
    return [pairs[uri]] if uri in pairs else [pairs[parent] for parent in sorted(pairs)]


def _named_folders(uri: str, files: Sequence[str], names: Sequence[str], suffixes: tuple[str, ...]) -> dict[str, str]:
    """By folder, the first of `names` that is the name of a folder in it, with such files below."""
    found: dict[str, str] = {}
    for file in files:
        folder = uri
        for part in file.removeprefix(f"{uri}/").split("/")[:-1] if file.lower().endswith(suffixes) else ():
            below = f"{folder}/{part}"
            known = found.get(folder)
            if part in names and (known is None or names.index(part) < names.index(known.rpartition("/")[2])):
                found[folder] = below
            folder = below
    return found


def _in_two_folders(image_folder: str, mask_folder: str, files: Sequence[str]) -> _Files:
    """The images may lie in the folder that has the masks' folder."""
    images = by_stem((file for file in files if not file.startswith(f"{mask_folder}/")), image_folder, EXTENSIONS)
    masks = _without_mark(by_stem(files, mask_folder, MASK_SUFFIXES), images)
    own, beside = mask_folder.rpartition("/")[2], image_folder.rpartition("/")[2]
    return _Files(images, masks, f"X.png in {own}/ and X.jpg in {beside}/")


def _in_one_folder(uri: str, files: Sequence[str]) -> _Files | None:
    """`X_mask.png` beside `X.jpg` or `X.png`, else `X.png` beside `X.jpg`; None if there are no such masks."""
    pngs, others = by_stem(files, uri, (".png",)), by_stem(files, uri, EXTENSIONS - {".png"})
    if marked := {stem: file for stem, file in pngs.items() if stem.endswith(MARK)}:
        images = by_stem(set(files) - set(marked.values()), uri, EXTENSIONS)
        return _Files(images, _without_mark(marked, images), "X_mask.png beside X.jpg")
    return _Files(others, pngs, "X.png beside X.jpg") if pngs.keys() & others.keys() else None


def _in_a_folder_beside(uri: str, files: Sequence[str]) -> _Files | None:
    """The images at `uri`, such as `images/train/`, with the masks in `masks/train/`; None if there are none."""
    for folder in (renamed_folder(uri, IMAGES, name) for name in MASKS):
        masks = visible_files(folder) if folder else []
        if folder and masks:
            return _in_two_folders(uri, folder, [*files, *masks])
    return None


def _without_mark(masks: dict[str, str], images: Collection[str]) -> dict[str, str]:
    """Masks by their images' names. Raises AnnotationError if an image has a mask with and one without the mark."""
    found: dict[str, str] = {}
    for stem, file in masks.items():
        name = stem if stem in images else stem.removesuffix(MARK)
        if found.setdefault(name, file) != file:
            raise AnnotationError(f"{shown([found[name], file])} are masks of the same image; remove one of them")
    return found


def visible_files(folder: str) -> list[str]:
    """URIs of the files below `folder` that are not hidden."""
    return [file.uri for file in storage.list_files(folder) if not is_hidden_below(file.uri, folder)]


def renamed_folder(uri: str, names: Collection[str], new: str) -> str | None:
    """`uri` with `new` for the last of its folders that has one of `names`; None if there is none. A bucket is no
    folder."""
    scheme, separator, path = uri.rpartition("://")
    parts = path.split("/")
    for number in range(len(parts) - 1, 0, -1):
        if parts[number] in names:
            return scheme + separator + "/".join([*parts[:number], new, *parts[number + 1 :]])
    return None


def by_stem(files: Iterable[str], folder: str, suffixes: Collection[str]) -> dict[str, str]:
    """URIs of the files below `folder` with one of the `suffixes`, by their path there without the suffix. Paths are
    composed, as a Mac may have written the one of two folders and another system the other."""
    found: dict[str, str] = {}
    for file in files:
        stem, dot, suffix = unicodedata.normalize("NFC", file.removeprefix(folder + "/")).rpartition(".")
        if file.startswith(folder + "/") and dot + suffix.lower() in suffixes:
            if stem in found:
                raise AnnotationError(f"{shown([found[stem], file])} have the same name; remove one of them")
            found[stem] = file
    return found


def refuse_bare(kind: str, partner: str, own: dict[str, str], others: dict[str, str], expected: str) -> None:
    """Raises AnnotationError for files of `own` without a partner of the same name in `others`."""
    if bare := [own[stem] for stem in sorted(own.keys() - others.keys())]:
        raise AnnotationError(
            f"{len(bare)} of {len(own)} {kind} have no {partner}: {shown(bare)}; "
            f"expected {expected}, so add the {partner}s or move these {kind} elsewhere"
        )


def _read_mask_file(
    uri: str, labels: Mapping[int, str], task: Task, image_height: int, image_width: int
) -> NDArray[Any]:
    data = storage.read_bytes(uri, max_bytes=MAX_MASK_BYTES)
    if uri.lower().endswith(".npy"):
        return merged(read_npy(data, image_height, image_width), task)
    if labels:
        return read_labelled_mask(data, labels, task, image_height, image_width)
    return read_png(data, task, image_height, image_width)
