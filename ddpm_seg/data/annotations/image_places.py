"""Finds the images that an annotation file names: beside it, in a folder nearby, or below `--image-root`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any
from urllib.parse import parse_qs, urlsplit

from numpy.typing import NDArray

from ddpm_seg import storage
from ddpm_seg.data.annotations.pair import Pair, image_pair, missing_pair
from ddpm_seg.data.inputs import sources

# A search gives up after this many files: someone else's bucket may be large.
MOST_FILES = 1_000_000


class ImagePlaces:
    """Finds image files by the names that other tools write.

    If `root` is given, looks there. Else looks beside the annotation file and in its folder `images`; if the file is in
    a folder `annotations`, also where COCO's own files have their images (`../train2017` for
    `instances_train2017.json`). An image that is in none of these places is searched by name in all folders below.
    """

    def __init__(self, annotations: str, root: str | None) -> None:
        self._is_remote = not storage.is_local(annotations)
        folder = annotations.rpartition("/")[0]
        parent, _, own_name = folder.rpartition("/")
        self._searched = [storage.normalize(root) if root else folder]
        self._bases = list(self._searched)
        if not root:
            self._bases.append(storage.join(folder, "images"))
            if own_name == "annotations":
                split = annotations.rpartition("/")[2].partition(".")[0].rpartition("_")[2]
                self._bases += [storage.join(parent, split), storage.join(parent, "images", split)]
                self._bases += [parent, storage.join(parent, "images")]
                self._searched = [parent]
        self._last = 0
        self._by_name: dict[str, list[str]] | None = None

    def __str__(self) -> str:
        return storage.redact(self._searched[0])

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
        problem = f"{mask}: found no image {names[0]} in {self}; give its folder with --image-root"
        return missing_pair(names[0], mask, problem)

    def find(self, names: Sequence[str]) -> str | None:
        """URI of the image with one of these names (paths or URIs, the likeliest first), or None.

        A remote URI is returned without a look. A path must have an image's extension; an absolute one counts only if
        the annotation file is on this machine too.
        """
        for name in names:
            if not storage.is_local(name):
                return sources.normalize(name)
        names = [name for name in names if sources.is_image_name(name)]  # never /etc/passwd
        relative = [_relative(name) for name in names]
        absolute = [] if self._is_remote else [name for name in names if name.startswith(("/", "file://"))]
        candidates = [*absolute, *(storage.join(base, name) for base in self._bases for name in relative)]
        # Try the place of the last image first, as each try may be a request.
        order = sorted(range(len(candidates)), key=lambda index: index != self._last)
        for index in order:
            if _is_there(candidates[index]):
                self._last = index
                return sources.normalize(candidates[index])
        return self._search(relative)

    def _search(self, names: Sequence[str]) -> str | None:
        if self._by_name is None:
            self._by_name = defaultdict(list)
            files = (file.uri for place in self._searched for file in storage.list_files(place))
            for uri in islice(files, MOST_FILES):
                self._by_name[uri.rpartition("/")[2]].append(uri)
        for name in names:
            named = self._by_name.get(name.rpartition("/")[2], [])
            while not (found := [uri for uri in named if uri.endswith("/" + name)]) and "/" in name:
                name = name.partition("/")[2]
            if len(found) == 1:
                return found[0]
        return None


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
