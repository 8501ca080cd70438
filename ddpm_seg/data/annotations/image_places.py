"""Finds the images that an annotation file names: beside it, in a folder nearby, or below `--image-root`."""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any
from urllib.parse import parse_qs, urlsplit

from numpy.typing import NDArray

from ddpm_seg import storage
from ddpm_seg.data.annotations.pair import Pair, image_pair, missing_pair, shown
from ddpm_seg.data.inputs import sources
from ddpm_seg.data.inputs.entries import spellings

# A search gives up after this many files: someone else's bucket may be large.
MOST_FILES = 1_000_000


class ImagePlaces:
    """Finds image files by the names that other tools write.

    If `root` is given, looks there. Else looks beside the annotation file and in its folder `images`; if the file is in
    a folder `annotations`, also where COCO's own files have their images (`../train2017` for
    `instances_train2017.json`). An image that is in none of these places is searched by name in all folders below,
    where a picture of another folder is not it: `val/1.jpg` is not `train/1.jpg`.
    """

    def __init__(self, annotations: str, root: str | None) -> None:
        self._is_remote = not storage.is_local(annotations)
        folder = annotations.rpartition("/")[0]
        parent, _, own_name = folder.rpartition("/")
        self._searched = storage.normalize(root) if root else folder
        self._bases = [self._searched]
        if not root:
            self._bases.append(storage.join(folder, "images"))
            if own_name == "annotations":
                split = annotations.rpartition("/")[2].partition(".")[0].rpartition("_")[2]
                self._bases += [storage.join(parent, split), storage.join(parent, "images", split)]
                self._bases += [parent, storage.join(parent, "images")]
                self._searched = parent
        self._last = 0
        self._by_name: dict[str, list[str]] | None = None

    def __str__(self) -> str:
        return storage.redact(self._searched)

    def pair(
        self, names: Sequence[str], mask: str, read_mask: Callable[[int, int], NDArray[Any]], *, drawn: bool = False
    ) -> Pair:
        """Pairs a mask with the image that has one of `names` (see `find`). `mask` is what messages call the mask.

        If there is no such image, reading the pair's image raises an AnnotationError that says where it was searched
        for.
        """
        found = self.find(names)
        if found is not None:
            return image_pair(found, mask, read_mask, drawn=drawn)
        others = [uri for name in names for uri in self._of_name(_relative(name))]
        but = f", only others of its name: {shown(dict.fromkeys(others))}" if others else ""
        problem = f"{mask}: found no image {names[0]} in {self}{but}; give its folder with --image-root"
        return missing_pair(names[0], mask, problem)

    def find(self, names: Sequence[str]) -> str | None:
        """URI of the image with one of these names (paths or URIs, the likeliest first), or None.

        A remote URI is returned without a look. A path must have an image's extension; an absolute one counts only if
        the annotation file is on this machine too.
        """
        for name in names:
            if not storage.is_local(name):
                return sources.normalize(name)
        names = [one for name in names if sources.is_image_name(name) for one in spellings(name)]  # never /etc/passwd
        relative = [_relative(name) for name in names]
        absolute = [] if self._is_remote else [name for name in names if name.startswith(("/", "file://"))]
        candidates = [*absolute, *(storage.join(base, name) for base in self._bases for name in relative)]
        # Try the place of the last image first, as each try may be a request.
        order = sorted(range(len(candidates)), key=lambda index: index != self._last)
        for index in order:
            if _is_there(candidates[index]):
                self._last = index
                return sources.normalize(candidates[index])
        return next((uri for name in relative if (uri := self._search(name)) is not None), None)

    def _search(self, name: str) -> str | None:
        """The file whose folders agree best with those of `name`; None if there are none, or several."""
        own, agreeing = _folders(name), defaultdict(list)
        for uri in self._of_name(name):
            # The folder images/ is a place of any image, so it says nothing about this one.
            theirs = _folders(uri.removeprefix(storage.join(self._searched, "")).removeprefix("images/"))
            common = _common_end(own, theirs)
            if common == min(len(own), len(theirs)):
                agreeing[common].append(uri)
        best = agreeing[max(agreeing)] if agreeing else []
        return best[0] if len(best) == 1 else None

    def _of_name(self, name: str) -> list[str]:
        """The files, in whatever folder, that are called like the last part of `name`."""
        if self._by_name is None:
            self._by_name = defaultdict(list)
            for file in islice(storage.list_files(self._searched), MOST_FILES):
                self._by_name[_composed(file.uri.rpartition("/")[2])].append(file.uri)
        return self._by_name.get(_composed(name.rpartition("/")[2]), [])


def _folders(path: str) -> list[str]:
    return [part for part in _composed(path).split("/")[:-1] if part not in ("", ".", "..")]


def _common_end(some: Sequence[str], others: Sequence[str]) -> int:
    """How many last parts are the same."""
    pairs = zip(reversed(some), reversed(others), strict=False)
    return next((count for count, (one, other) in enumerate(pairs) if one != other), min(len(some), len(others)))


def _composed(name: str) -> str:
    """A name as it compares: `é` is one character in some tools and on some disks, two in others."""
    return unicodedata.normalize("NFC", name)


def _is_there(uri: str) -> bool:
    try:
        return sources.exists(uri)
    except (ValueError, PermissionError):  # a name that no file can have
        return False


def _relative(name: str) -> str:
    """A tool's name for an image as a relative path: from a Windows, absolute or Label Studio path."""
    if name.startswith("/data/local-files/?"):
        name = parse_qs(urlsplit(name).query).get("d", [name])[0]
    name = name.removeprefix("file://").replace("\\", "/")
    drive, colon, path = name.partition(":")
    return (path if colon and len(drive) == 1 else name).lstrip("/")
