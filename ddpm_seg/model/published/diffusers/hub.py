"""Finds the folder that --diffusers, --timm or --transformers names: an existing one, or a repository downloaded from
Hugging Face's hub."""

from __future__ import annotations

import errno
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from ddpm_seg import storage
from ddpm_seg.model.json_values import one_line
from ddpm_seg.model.published.diffusers.weights import DIFFUSERS, MODEL, choose_file

SECONDS = 5
"""Seconds to wait for each answer of the hub."""
_REPOSITORY = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")


def needed_of_pipeline(files: Sequence[str]) -> list[str]:
    """The files of a diffusers pipeline that are read."""
    needed = [file for file in files if re.fullmatch(r"README\.md|(unet/|scheduler/)?[\w.-]+\.json", file)]
    if "vae/config.json" in files:  # of a latent diffusion model, which also needs its autoencoder and its prompt
        parts = r"(vae|text_encoder|tokenizer|text_encoder_2|tokenizer_2)"
        needed += [file for file in files if re.fullmatch(parts + r"/[\w.-]+\.(json|txt)", file)]
        for part, stem in (("vae/", DIFFUSERS), ("text_encoder/", MODEL), ("text_encoder_2/", MODEL)):
            needed += _weights_in(part, files, stem)
    return [*needed, *(_weights_in("unet/", files) or _weights_in("", files))]


def needed_of_model(files: Sequence[str]) -> list[str]:
    """The files of a timm or transformers model that are read."""
    needed = [file for file in files if re.fullmatch(r"README\.md|[\w.-]+\.json", file)]
    chosen = choose_file((file for file in files if "/" not in file), MODEL)
    return needed if chosen is None else [*needed, *_with_shards("", chosen)]


def local_folder(name: str, needed: Callable[[Sequence[str]], list[str]], *, landmark: str, what: str) -> str:
    """URI of the folder `name`, or of the local copy of the hub's repository with that name.

    `needed` chooses from the repository's files those to download; `landmark` is a file that every such folder has, and
    `what` names the folder in messages. Raises NotADirectoryError for a file; FileNotFoundError if there is neither
    such a folder nor such a repository, or no network.
    """
    if storage.exists(name):
        try:
            storage.info(name)
        except IsADirectoryError:
            return storage.normalize(name)
        raise NotADirectoryError(errno.ENOTDIR, f"a file; expected the folder of a {what}", storage.redact(name))
    if not _REPOSITORY.fullmatch(name):
        raise FileNotFoundError(errno.ENOENT, "no such folder", storage.redact(name))
    return _fetched(name, needed, landmark, what)


def _fetched(name: str, needed: Callable[[Sequence[str]], list[str]], landmark: str, what: str) -> str:
    """Downloads only the files needed; if the hub cannot be reached, uses the copy in the cache."""
    from huggingface_hub import HfApi, snapshot_download, try_to_load_from_cache
    from huggingface_hub.errors import HfHubHTTPError

    try:
        siblings = HfApi().model_info(name, timeout=SECONDS).siblings or []
        files = needed([sibling.rfilename for sibling in siblings])
        return snapshot_download(name, allow_patterns=files, etag_timeout=SECONDS)
    except HfHubHTTPError as error:
        raise _missing(name, f"the hub has no such {what} ({one_line(error)})") from None
    except Exception as error:  # each client library has its own exceptions for the network
        cached = try_to_load_from_cache(name, landmark)
        if isinstance(cached, str):
            return str(Path(cached).parent)
        raise _missing(name, f"the hub cannot be reached ({one_line(error)})") from None


def _missing(name: str, why: str) -> FileNotFoundError:
    return FileNotFoundError(errno.ENOENT, f"no such folder, and {why}", name)


def _weights_in(part: str, files: Sequence[str], stem: str = DIFFUSERS) -> list[str]:
    """The weights of a subfolder, such as "unet/"; none if it has none."""
    chosen = choose_file((file.removeprefix(part) for file in files if file.startswith(part)), stem)
    return [] if chosen is None else _with_shards(part, chosen)


def _with_shards(part: str, chosen: str) -> list[str]:
    """The file `chosen` in `part` and, if it is an index, a pattern of the files that it names."""
    if not chosen.endswith(".json"):
        return [part + chosen]
    form = "safetensors" if ".safetensors" in chosen else "bin"
    return [part + chosen, f"{part}*-of-*.{form}"]
