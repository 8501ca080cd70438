"""Exports to WebDataset: tars of masks with the names and keys of the tars that the images lie in."""

from __future__ import annotations

import io
import os
import re
import tarfile
import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from ddpm_seg import storage
from ddpm_seg.data.exports.picture import Picture
from ddpm_seg.data.inputs import sources
from ddpm_seg.data.table_pictures import encode_png
from ddpm_seg.json_text import to_json
from ddpm_seg.tasks import Task
from ddpm_seg.temporary_space import space_named

IN_A_TAR = 1000
"""Masks in a tar for images that lie in none."""


def write_webdataset(pictures: Iterable[Picture], task: Task, output: str) -> None:
    """Writes `00012.tar` for the images in `…/00012.tar`, with KEY.mask.png (class ids; 255: none) and KEY.json.

    KEY is that of the image's own sample, or for an image in a Parquet table the number of its row. Tars of the same
    name in different folders are written to these folders, as far as they differ. Images that are files of their own
    come in `files-00000.tar`, … under their names in `pictures.csv`. KEY.json also has what is `kept`. The tars are
    collected on this machine's disk first, as a tar's images may come in pieces.
    """
    with tempfile.TemporaryDirectory(prefix="ddpm_seg-") as folder:
        held = _Tars(Path(folder))
        for picture in pictures:
            container, member = sources.split(picture.uri)
            key = _key(member[1:], picture.name) if member else picture.name
            with space_named("the tars"):
                held.add(container if member else "", key, _files(picture, task))
        with space_named("the tars"):
            held.close()
        for name, path in _named(held.paths):
            storage.write_bytes(storage.join(output, name), path.read_bytes())


class _Tars:
    """Tars on this disk, one for each container; only one is open at a time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open: tarfile.TarFile | None = None
        self._opened, self._alone = "", 0
        self.paths: dict[str, Path] = {}

    def add(self, container: str, key: str, files: dict[str, bytes]) -> None:
        """Adds the files of a sample, by suffix, to the tar for a container; "" is for images that lie in none."""
        if not container:
            container = f"files-{self._alone // IN_A_TAR:05d}.tar"
            self._alone += 1
        if self._open is None or self._opened != container:
            self.close()
            path = self.paths.setdefault(container, self._folder / f"{len(self.paths)}.tar")
            self._open, self._opened = tarfile.open(path, "a"), container  # noqa: SIM115
        for suffix, data in files.items():
            entry = tarfile.TarInfo(f"{key}.{suffix}")
            entry.size = len(data)
            self._open.addfile(entry, io.BytesIO(data))

    def close(self) -> None:
        if self._open is not None:
            self._open.close()
        self._open = None


def _files(picture: Picture, task: Task) -> dict[str, bytes]:
    total = max(1, picture.mask.size)
    about = {
        "uri": picture.uri,
        "uncertainty": picture.uncertainty,
        "mean_confidence": picture.mean_confidence,
        "model_id": picture.model_id,
        "classes": [
            {
                "class_id": class_id,
                "class_name": task.class_names[class_id],
                "pixels": int(pixels.sum()),
                "fraction": float(pixels.sum() / total),
            }
            for class_id, pixels in picture.classes()
        ],
        **picture.kept,
    }
    try:
        return {"mask.png": encode_png(picture.mask), "json": to_json(about)}
    except TypeError as error:
        raise ValueError(f"{storage.redact(picture.uri)}: --keep names what JSON cannot hold: {error}") from error


def _key(member: str, name: str) -> str:
    """WebDataset's key of a member; the picture's own `name` if the key could lead out of a folder."""
    folder, slash, file = member.rpartition("/")
    stem, _, rest = file.partition(".")
    again = re.search(r"\?\d+$", rest)  # a second member of the same name
    key = folder + slash + stem + (again[0] if again else "")
    return name if key.startswith("/") or ".." in key.split("/") or not stem else key


def _named(paths: dict[str, Path]) -> Iterable[tuple[str, Path]]:
    """A name for the tar of each container: its file's, after the folders that tell equal names apart."""
    names = {container: _safe(PurePosixPath(container).name) for container in paths}
    twice = {name for name, count in Counter(names.values()).items() if count > 1}
    alike = [container for container in paths if names[container] in twice]
    common = os.path.commonpath([PurePosixPath(one).parent for one in alike]) if alike else ""
    for container, path in paths.items():
        name = names[container]
        if name in twice:
            parts = PurePosixPath(container).parent.relative_to(common).parts
            name = "/".join([*map(_safe, parts), name])
        yield name, path


def _safe(name: str) -> str:
    stem = re.sub(r"\.(tar|tar\.gz|tgz|parquet|lance)$", "", name, flags=re.IGNORECASE)
    return re.sub(r"[^A-Za-z0-9._-]+", "_", stem).lstrip(".") + ("" if stem == name else ".tar")
