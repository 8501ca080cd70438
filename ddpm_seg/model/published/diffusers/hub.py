"""Finds the folder that --diffusers names: an existing one, or a repository downloaded from Hugging Face's hub."""

from __future__ import annotations

import errno
import re
from collections.abc import Sequence
from pathlib import Path

from ddpm_seg import storage
from ddpm_seg.model.json_values import one_line
from ddpm_seg.model.published.diffusers.weights import choose_file

SECONDS = 5
"""Seconds to wait for each answer of the hub."""
_REPOSITORY = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")


def local_folder(name: str) -> str:
    """URI of the folder `name`, or of the local copy of the hub's repository with that name.

    Raises NotADirectoryError for a file; FileNotFoundError if there is neither such a folder nor such a repository, or
    no network.
    """
    if storage.exists(name):
        try:
            storage.info(name)
        except IsADirectoryError:
            return storage.normalize(name)
        raise NotADirectoryError(
            errno.ENOTDIR, "a file; expected the folder of a diffusers pipeline", storage.redact(name)
        )
    if not _REPOSITORY.fullmatch(name):
        raise FileNotFoundError(errno.ENOENT, "no such folder", storage.redact(name))
    return _fetched(name)


def _fetched(name: str) -> str:
    """Downloads only the files needed; if the hub cannot be reached, uses the copy in the cache."""
    from huggingface_hub import HfApi, snapshot_download, try_to_load_from_cache
    from huggingface_hub.errors import HfHubHTTPError

    try:
        siblings = HfApi().model_info(name, timeout=SECONDS).siblings or []
        files = _needed([sibling.rfilename for sibling in siblings])
        return snapshot_download(name, allow_patterns=files, etag_timeout=SECONDS)
    except HfHubHTTPError as error:
        raise _missing(name, f"the hub has no such pipeline ({one_line(error)})") from None
    except Exception as error:  # each client library has its own exceptions for the network
        cached = try_to_load_from_cache(name, "model_index.json")
        if isinstance(cached, str):
            return str(Path(cached).parent)
        raise _missing(name, f"the hub cannot be reached ({one_line(error)})") from None


def _missing(name: str, why: str) -> FileNotFoundError:
    return FileNotFoundError(errno.ENOENT, f"no such folder, and {why}", name)


def _needed(files: Sequence[str]) -> list[str]:
    needed = [file for file in files if re.fullmatch(r"(unet/|scheduler/)?[\w.-]+\.json", file)]
    for part in ("unet/", ""):
        chosen = choose_file(file.removeprefix(part) for file in files if file.startswith(part))
        if chosen is not None:
            form = "safetensors" if ".safetensors" in chosen else "bin"
            whole = not chosen.endswith(".json")
            return [*needed, part + chosen] if whole else [*needed, f"{part}*-of-*.{form}"]
    return needed
