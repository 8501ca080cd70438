"""Unpacks for tests what version 6f6d309 wrote; `record.py` made it and says how."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

from ddpm_seg import storage

FOLDER = Path(__file__).parent / "6f6d309"
FACTS: dict[str, Any] = json.loads((FOLDER / "recorded.json").read_text())
"""What that version itself said of each output, bundle and training."""
PREFIX = "s3://data/recorded"
"""Where they stood: the S3 server of the tests has one bucket, "data", so every test run has the same URIs."""


def unpack(name: str, folder: Path) -> Path:
    """The recorded "bundles", "labels", "samples" or "trainings" below `folder`, with the files' own times."""
    with tarfile.open(FOLDER / f"{name}.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return folder


def upload(folder: Path, uri: str) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            storage.write_bytes(storage.join(uri, str(path.relative_to(folder))), path.read_bytes())
