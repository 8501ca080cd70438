"""Exports to WebDataset: tars of masks with the names and keys of the tars that the images lie in."""

from __future__ import annotations

import hashlib
import io
import posixpath
import re
import tarfile
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO

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
    name in different folders are written to these folders, as far as they differ; where that leaves names equal, they
    get a digest of the container's URI. Where images in one tar have the same KEY, theirs are their names' (`1_left`,
    `1_right`). Images that are files of their own come in `files-00000.tar`, … under their names in `pictures.csv`.
    KEY.json also has what is `kept`. The tars are collected on this machine's disk first, as a tar's images may come in
    pieces.
    """
    with tempfile.TemporaryDirectory(prefix="ddpm_seg-") as folder:
        held = _Tars(Path(folder))
        for picture in pictures:
            container, member = sources.split(picture.uri)
            with space_named("the tars"):
                held.add(container if member else "", _keys(member[1:], picture.name), _files(picture, task))
        with space_named("the tars"):
            held.close()
        names = _told_apart(_names(list(held.tars)))
        for name, tar in zip(names, held.tars.values(), strict=True):
            storage.write_bytes(storage.join(output, name), tar.with_keys())


Names = tuple[str, str, str]
"""What something may be called: the best name, a fuller one, and one that nothing else has."""


@dataclass(frozen=True, slots=True)
class _Tar:
    """A tar on this disk, whose samples are numbered: their keys are known only when all have come."""

    path: Path
    keys: list[Names] = field(default_factory=list)

    def with_keys(self) -> bytes:
        """The tar with a key of its own for each sample."""
        keys, renamed = _told_apart(self.keys), io.BytesIO()
        with tarfile.open(self.path) as held, tarfile.open(fileobj=renamed, mode="w") as tar:
            for entry in held:
                number, _, suffix = entry.name.partition(".")
                _add(tar, f"{keys[int(number)]}.{suffix}", entry.size, held.extractfile(entry))
        return renamed.getvalue()


class _Tars:
    """Tars on this disk, one for each container; only one is open at a time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open: tarfile.TarFile | None = None
        self._opened, self._alone = "", 0
        self.tars: dict[str, _Tar] = {}

    def add(self, container: str, keys: Names, files: dict[str, bytes]) -> None:
        """Adds the files of a sample, by suffix, to the tar for a container; "" is for images that lie in none."""
        if not container:
            container = f"files-{self._alone // IN_A_TAR:05d}.tar"
            self._alone += 1
        tar = self.tars.setdefault(container, _Tar(self._folder / f"{len(self.tars)}.tar"))
        if self._open is None or self._opened != container:
            self.close()
            self._open, self._opened = tarfile.open(tar.path, "a"), container  # noqa: SIM115
        for suffix, data in files.items():
            _add(self._open, f"{len(tar.keys)}.{suffix}", len(data), io.BytesIO(data))
        tar.keys.append(keys)

    def close(self) -> None:
        if self._open is not None:
            self._open.close()
        self._open = None


def _add(tar: tarfile.TarFile, name: str, size: int, data: IO[bytes] | None) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = size
    tar.addfile(entry, data)


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


def _keys(member: str, name: str) -> Names:
    """WebDataset's key of a member, its name without a dot, and the picture's own `name`; only that if the member's
    could lead out of a folder."""
    folder, slash, file = member.rpartition("/")
    stem, _, rest = file.partition(".")
    again = re.search(r"\?\d+$", rest)  # a second member of the same name
    mark = again[0] if again else ""
    if not stem or member.startswith("/") or ".." in folder.split("/"):
        return name, name, name
    fuller = PurePosixPath(file.removesuffix(mark)).stem.replace(".", "_")
    return folder + slash + stem + mark, folder + slash + fuller + mark, name


def _names(containers: Sequence[str]) -> list[Names]:
    """For the tar of each container its file's name, that after the folders that tell equal names apart, and that with
    a digest."""
    plain = [_safe(PurePosixPath(container).name) for container in containers]
    count = Counter(plain)
    alike = [PurePosixPath(one).parent for one, name in zip(containers, plain, strict=True) if count[name] > 1]
    common = {  # a path and a URI have no folder in common
        root: posixpath.commonpath([folder for folder in alike if folder.root == root])
        for root in {folder.root for folder in alike}
    }
    return [(name, *_longer(one, name, common)) for one, name in zip(containers, plain, strict=True)]


def _longer(container: str, name: str, common: Mapping[str, str]) -> tuple[str, str]:
    folder = PurePosixPath(container).parent
    above = common.get(folder.root, folder)
    parts = folder.relative_to(above).parts if folder.is_relative_to(above) else ()
    longer = "/".join([*filter(None, map(_safe, parts)), name])
    stem, _, suffix = longer.rpartition(".")
    digest = hashlib.blake2b(container.encode(errors="surrogateescape"), digest_size=6).hexdigest()
    return longer, f"{stem}-{digest}.{suffix}"


def _told_apart(choices: Sequence[Names]) -> list[str]:
    """For each one the first of its names that no other has."""
    chosen = [""] * len(choices)
    for place in range(2):
        names = [done or each[place] for done, each in zip(chosen, choices, strict=True)]
        count = Counter(names)
        chosen = [name if done or count[name] == 1 else "" for done, name in zip(chosen, names, strict=True)]
    return [done or each[2] for done, each in zip(chosen, choices, strict=True)]


def _safe(name: str) -> str:
    stem = re.sub(r"\.(tar|tar\.gz|tgz|parquet|lance)$", "", name, flags=re.IGNORECASE)
    return re.sub(r"[^A-Za-z0-9._-]+", "_", stem).lstrip(".") + ("" if stem == name else ".tar")
