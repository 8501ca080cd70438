"""Reads the weights in a folder of Hugging Face's libraries or timm: one file or several, safetensors or torch's, in
full or half precision."""

from __future__ import annotations

import errno
import logging
import re
from collections.abc import Iterable

from ddpm_seg import storage
from ddpm_seg.model.json_values import shown
from ddpm_seg.model.published.diffusers.files import Folder
from ddpm_seg.model.published.state_dicts import State, read_checkpoint, state_dict
from ddpm_seg.model.shapes import some

logger = logging.getLogger(__name__)

DIFFUSERS, MODEL = "diffusion_pytorch_model", "(?:pytorch_)?model"
"""How the names of the files with weights begin, as regular expressions: in diffusers; in transformers and timm."""
_WHOLE = r"(?:\.(?P<variant>\w+))?\.(?P<form>safetensors|bin)"
_INDEX = r"\.(?P<form>safetensors|bin)\.index(?:\.(?P<variant>\w+))?\.json"
_PRECISE_FIRST = ("", "fp32", "fp16", "bf16")
# Names in attention layers before diffusers 0.14.
_OLD_NAMES = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
_OLD_NAME = re.compile(r"(\battentions\.\d+)\.(query|key|value|proj_attn)\.(weight|bias)")


def choose_file(names: Iterable[str], stem: str = DIFFUSERS) -> str | None:
    """From the names in a folder, the file of weights or the index of their shards; None if there is neither.

    Prefers, as diffusers does, full precision to a variant, safetensors to torch's files, and shards to a whole file.
    Raises ValueError if there are only variants and their names do not tell which to use.
    """
    ranked = []
    for name in names:
        if match := re.fullmatch(stem + _INDEX, name) or re.fullmatch(stem + _WHOLE, name):
            variant = match["variant"] or ""
            rank = _PRECISE_FIRST.index(variant) if variant in _PRECISE_FIRST else len(_PRECISE_FIRST)
            ranked.append((rank, variant, match["form"] == "bin", name.endswith(f".{match['form']}"), name))
    if not ranked:
        return None
    rank, variant, _, _, name = min(ranked)
    others = {other for other_rank, other, *_ in ranked if other_rank == rank} - {variant}
    if others:
        raise ValueError(f"weights of the variants {some({variant, *others})}; leave one of them in the folder")
    return name


def read_weights(folder: Folder, part: str, stem: str = DIFFUSERS) -> State:
    """Tensors in the subfolder `part` ("" for the folder itself), in files whose names begin with `stem`; nothing is
    compared yet. Old names in a diffusers network become today's.

    Raises ValueError, naming the file, if it is damaged or refused; FileNotFoundError if one is missing.
    """
    names = [name for name in folder.names(part, "") if re.match(stem, name)]
    try:
        name = choose_file(names, stem)
    except ValueError as error:
        raise ValueError(f"{folder.named(part)}: {error}") from None
    if name is None:
        expected = stem if stem == DIFFUSERS else "model"
        raise FileNotFoundError(
            errno.ENOENT,
            f"there are no weights, but {some(names)}; expected {expected}.safetensors or "
            f"{DIFFUSERS if stem == DIFFUSERS else 'pytorch_model'}.bin",
            folder.named(part),
        )
    read = _read_file if re.fullmatch(stem + _WHOLE, name) else _read_shards
    state = read(folder, part, name)
    if not re.fullmatch(stem + r"\.(safetensors|bin)", name):
        logger.info("weights are from %s", folder.named(part, name))
    return _renamed(state, folder.named(part, name)) if stem == DIFFUSERS else state


def _read_file(folder: Folder, part: str, name: str) -> State:
    uri = folder.file(part, name)
    return state_dict(read_checkpoint(uri), storage.redact(uri))


def _read_shards(folder: Folder, part: str, index: str) -> State:
    where = folder.named(part, index)
    weight_map = (folder.read_json(part, index) or {}).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise ValueError(f"{where}: weight_map is {shown(weight_map)}; expected the file of each weight")
    form = "safetensors" if ".safetensors." in index else "bin"
    # These names are opened relative to the index, and must not lead elsewhere.
    shard_name = re.compile(rf"[\w-][\w.-]*\.{form}")
    for key, shard in weight_map.items():
        if not isinstance(shard, str) or not shard_name.fullmatch(shard):
            raise ValueError(f"{where}: {shown(key)} is in {shown(shard)}; expected a .{form} file beside the index")
    state: State = {}
    for shard in sorted(set(weight_map.values())):
        if not folder.has(part, shard):
            raise FileNotFoundError(errno.ENOENT, "a file that the index names is missing", folder.named(part, shard))
        tensors = _read_file(folder, part, shard)
        if twice := tensors.keys() & state.keys():
            raise ValueError(f"{folder.named(part, shard)}: {some(twice)} is in another file too")
        state |= tensors
    return state


def _renamed(state: State, where: str) -> State:
    """`state` under today's names."""
    names = {key: _OLD_NAME.sub(lambda match: f"{match[1]}.{_OLD_NAMES[match[2]]}.{match[3]}", key) for key in state}
    if len(set(names.values())) < len(names):
        raise ValueError(f"{where}: it has weights under their old and their new names")
    return {names[key]: tensor for key, tensor in state.items()}
