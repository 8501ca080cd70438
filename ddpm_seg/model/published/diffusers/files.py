"""The files of a folder of Hugging Face's libraries or timm; files outside it are never read, whatever
its links and its JSON say."""

from __future__ import annotations

import errno
import glob
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from ddpm_seg import storage
from ddpm_seg.model.bundle.files import refuse_strange_file
from ddpm_seg.model.json_values import parse_object
from ddpm_seg.model.published.state_dicts import refuse_placeholder

MAX_JSON_BYTES = 2**24
"""Limit for a config or an index; an index has about 100 bytes per weight."""


@dataclass(frozen=True, slots=True)
class Folder:
    """A local folder, or a prefix in a store."""

    uri: str

    @property
    def name(self) -> str:
        """Its name in messages."""
        return storage.redact(self.uri)

    def named(self, *parts: str) -> str:
        """The name in messages of a file or subfolder."""
        return storage.redact(self._join(*parts))

    def has(self, *parts: str) -> bool:
        return storage.exists(self._join(*parts))

    def file(self, *parts: str) -> str:
        """URI of a file in the folder. Raises ValueError for a link that leads outside, and for anything but an
        ordinary file."""
        path = PurePosixPath(*parts)
        if storage.is_local(self.uri):
            root = _links_root(Path(self.uri))
            refuse_strange_file(str(root), str(Path(self.uri).relative_to(root) / path), "folder")
        return self._join(*parts)

    def names(self, part: str, beginning: str) -> list[str]:
        """Names of the files in the subfolder `part` that begin with `beginning`."""
        found = storage.glob(f"{glob.escape(self._join(part))}/{glob.escape(beginning)}*")
        return [file.uri.rpartition("/")[2] for file in found]

    def read_json(self, *parts: str) -> dict[str, Any] | None:
        """The JSON object in the file, or None if there is no such file. Raises ValueError naming the file."""
        if not self.has(*parts):
            return None
        name = self.named(*parts)
        data = storage.read_bytes(self.file(*parts), max_bytes=MAX_JSON_BYTES)
        refuse_placeholder(data, name, "JSON file")
        try:
            return parse_object(data)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error

    def licence(self) -> str | None:
        """The licence that the model card, README.md, names in its first block; None if there is none."""
        if not self.has("README.md"):
            return None
        text = storage.read_bytes(self.file("README.md"), max_bytes=MAX_JSON_BYTES).decode(errors="replace")
        block = re.match(r"---\n(.*?)\n---", text, re.DOTALL)
        field = re.compile(r"^(license|license_name):[ \t]*([\w.+-]{1,80})[ \t]*$", re.MULTILINE)
        found = dict(field.findall(block[1] if block else ""))
        return found.get("license_name") or found.get("license")

    def read_part(
        self, parts: Sequence[str], file: str, what: str = "diffusers pipeline, with its unet and its scheduler"
    ) -> tuple[str, dict[str, Any]]:
        """The first of `parts` (subfolders, or "" for the folder itself) that has the JSON `file`, and its content.

        Raises FileNotFoundError if none has it; `what` names the folder in its message.
        """
        for part in parts:
            if (content := self.read_json(part, file)) is not None:
                return part, content
        places = " or ".join(f"{part}/{file}" if part else file for part in parts)
        raise FileNotFoundError(
            errno.ENOENT,
            f"there is no {places}; expected the folder of a {what}",
            self.name,
        )

    def _join(self, *parts: str) -> str:
        return storage.join(self.uri, *filter(None, parts))


def _links_root(folder: Path) -> Path:
    """The folder that links may lead into: in a snapshot in the hub's cache, that of the repository, which has the
    blobs."""
    snapshots = folder.parent
    if snapshots.name == "snapshots" and snapshots.parent.name.startswith("models--"):
        return snapshots.parent
    return folder
