"""Random changes of checkpoints and of the JSON beside them: some mean nothing, some nothing may accept."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from tests.fuzzing import change_bytes, change_values

State = dict[str, Any]
SAME, REFUSED, ANY = "same", "refused", "any"
"""What must become of a changed file: the very model, a refusal, or either of them (or another model)."""

_HOLDERS = ("model", "state_dict", "model_state_dict", "g_ema")
_NOT_READ = ("decoder", "mask_token", "norm.", "head.", "projection_head.", "prototypes.")
WEIGHTS = (".pt", ".pth", ".th", ".bin", ".safetensors")


def change_file(file: Path, folder: Path, draw: random.Random) -> tuple[str, str]:
    """Changes `file`, of the model in `folder`; what was done, and what must become of it."""
    if draw.random() < 0.15:
        return _replace(file, folder, draw)
    if file.suffix in WEIGHTS and draw.random() < 0.85:
        return _change_weights(file, draw)
    if file.suffix == ".json" and draw.random() < 0.85:
        return _change_json(file, draw)
    file.write_bytes(change_bytes(file.read_bytes(), draw))
    return "bytes", ANY


def _change_weights(file: Path, draw: random.Random) -> tuple[str, str]:
    content = (
        safetensors.torch.load_file(file) if file.suffix == ".safetensors" else torch.load(file, weights_only=False)
    )
    holder = next((key for key in _HOLDERS if key in content), None)
    state = dict(content if holder is None else content[holder])
    of_shards = "-of-" in file.name
    table: Mapping[str, Callable[..., str]] = _SAME if draw.random() < 0.4 else _REFUSED
    what = draw.choice(list(table))
    try:
        table[what](state, draw)
    except ValueError:  # this state has nothing to change so
        return "weights unchanged", SAME
    expected = SAME if table is _SAME else REFUSED
    whole = state if holder is None else {**content, holder: state}
    if file.suffix == ".safetensors":
        if not all(isinstance(value, Tensor) and value.layout is torch.strided for value in state.values()):
            return "weights unchanged", SAME
        safetensors.torch.save_file({key: value.detach().contiguous() for key, value in state.items()}, file)
    elif holder is None and not of_shards and expected == SAME and draw.random() < 0.2:
        safetensors.torch.save_file({key: value.detach().contiguous() for key, value in state.items()}, file)
        what = f"{what}, as safetensors"
    else:
        torch.save(whole, file, _use_new_zipfile_serialization=draw.random() < 0.7)
    return f"weights: {what}", expected


def _rename_all(state: State, rename: Callable[[str], str]) -> None:
    renamed = {rename(key): value for key, value in state.items()}
    state.clear()
    state.update(renamed)


def _key(state: State, draw: random.Random, *, least_dims: int = 0) -> str:
    """One of the weights that are read. Raises ValueError where there is none."""
    keys = [
        key
        for key, value in state.items()
        if value.dim() >= least_dims
        and not key.removeprefix("module.").startswith(_NOT_READ)
        and not key.endswith("num_batches_tracked")
    ]
    if not keys:
        raise ValueError("no such weight")
    return draw.choice(sorted(keys))


def _prefix(state: State, draw: random.Random) -> None:
    prefix = draw.choice(["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "_fsdp_wrapped_module."])
    _rename_all(state, lambda key: prefix + key)


def _wider(state: State, draw: random.Random) -> None:
    for key, value in state.items():
        if value.is_floating_point():
            state[key] = value.double()


def _shuffled(state: State, draw: random.Random) -> None:
    items = list(state.items())
    draw.shuffle(items)
    state.clear()
    state.update(items)


def _strided(state: State, draw: random.Random) -> None:
    """Tensors that are no contiguous run of numbers."""
    for key, value in state.items():
        if value.dim() >= 2:
            state[key] = value.transpose(0, -1).contiguous().transpose(0, -1)


def _parameters(state: State, draw: random.Random) -> None:
    for key, value in state.items():
        if value.is_floating_point():
            state[key] = nn.Parameter(value)


_SAME: dict[str, Callable[..., Any]] = {
    "prefix": _prefix,
    "float64": _wider,
    "shuffled": _shuffled,
    "strided": _strided,
    "parameters": _parameters,
}


def _without(state: State, draw: random.Random) -> None:
    del state[_key(state, draw)]


def _renamed(state: State, draw: random.Random) -> None:
    key = _key(state, draw)
    state[draw.choice(["x", key.upper() + "_", f"ema.{key}", "", "../x", "a\nb\x1b[1m", "n" * 3000])] = state.pop(key)


def _added(state: State, draw: random.Random) -> None:
    state[draw.choice(["label_emb.weight", "extra", "_orig_mod.extra", "0"])] = torch.zeros(3)


def _reshaped(state: State, draw: random.Random) -> None:
    key = _key(state, draw, least_dims=1)
    shape = list(state[key].shape)
    where = draw.randrange(len(shape))
    other = [*shape[:where], shape[where] + draw.choice([1, 2]), *shape[where + 1 :]]
    state[key] = torch.zeros(draw.choice([other, [*shape, 1], [1, *shape], [0], []]))


def _not_finite(state: State, draw: random.Random) -> None:
    key = _key(state, draw)
    value = state[key].clone()
    value.view(-1)[draw.randrange(value.numel())] = draw.choice([float("nan"), float("inf"), -float("inf")])
    state[key] = value.half() if draw.random() < 0.3 else value


def _other_type(state: State, draw: random.Random) -> None:
    key = _key(state, draw)
    types = [torch.int8, torch.uint8, torch.int64, torch.bool, torch.complex64]
    state[key] = state[key].to(draw.choice(types))


def _no_tensor(state: State, draw: random.Random) -> None:
    key = _key(state, draw)
    state[key] = draw.choice([None, "x", 3.5, {}, [state[key]], {"a": state[key]}, state[key].to_sparse()])


def _emptied(state: State, draw: random.Random) -> None:
    state.clear()


def _prefixed_in_part(state: State, draw: random.Random) -> None:
    """Names that a wrapper's prefix makes ambiguous."""
    key = _key(state, draw)
    state[f"_orig_mod.{key}"] = state[key] + 1


_REFUSED: dict[str, Callable[..., Any]] = {
    "one missing": _without,
    "one renamed": _renamed,
    "one added": _added,
    "one of another shape": _reshaped,
    "one not finite": _not_finite,
    "one of another type": _other_type,
    "one no tensor": _no_tensor,
    "one twice": _prefixed_in_part,
    "none": _emptied,
}


def _change_json(file: Path, draw: random.Random) -> tuple[str, str]:
    content = json.loads(file.read_text())
    if draw.random() < 0.3:
        what = draw.choice(["indented", "shuffled", "marked", "more"])
        if what == "shuffled":
            content = dict(draw.sample(list(content.items()), len(content)))
        if what == "more":
            content[draw.choice(["_comment", "comment_of_the_author"])] = draw.choice(["text", 3.5, None])
        text = json.dumps(content, indent=draw.choice([None, 2, "\t"])).encode()
        file.write_bytes(b"\xef\xbb\xbf" + text if what == "marked" else text)
        return f"json {what}", SAME
    if draw.random() < 0.15:
        file.write_bytes(
            draw.choice([b"", b"null", b"[]", b"{", b"[" * 100_000, b'{"a":' * 100_000 + b"1", b"\xff\xfe{", b"NaN"])
        )
        return "json text", REFUSED
    change_values(content, draw, ["extra", "unet", "vqvae", "_class_name", "../x", ""])
    file.write_text(json.dumps(content))
    return "json values", ANY


def _replace(file: Path, folder: Path, draw: random.Random) -> tuple[str, str]:
    """A file that is missing, another one, a folder, a pipe or a link."""
    whole = file.read_bytes()
    file.unlink()
    what = draw.choice(["missing", "folder", "pipe", "foreign", "holes", "link inside", "link outside", "another"])
    if what == "folder":
        file.mkdir()
    elif what == "pipe":
        os.mkfifo(file)
    elif what == "foreign":
        file.write_bytes(draw.choice([b"", bytes(100), b"version https://git-lfs.github.com/spec/v1\n", b"<html>"]))
    elif what == "holes":
        with file.open("wb") as holes:
            holes.write(draw.choice([b"", whole[:1], b"\x10\0\0\0\0\0\0\0{", whole]))
            holes.truncate(2**42)
    elif what == "link inside":
        file.with_name("kept").write_bytes(whole)
        file.symlink_to("kept")
        return what, SAME
    elif what == "link outside":
        # Who gives a file by its own flag may give a link; in a folder of diffusers none leads out.
        file.symlink_to(draw.choice(["/dev/zero", "/etc/passwd"] if (folder / "unet").exists() else ["/dev/zero"]))
    elif what == "another":
        shutil.copy(draw.choice(sorted(path for path in folder.rglob("*") if path.is_file())), file)
        return what, ANY
    optional = file.name == "model_index.json" and what == "missing"
    return what, SAME if optional else REFUSED
