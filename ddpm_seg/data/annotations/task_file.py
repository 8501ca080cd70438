"""Reads a user's own task from a YAML or JSON file with class names."""

from __future__ import annotations

import colorsys
import json
import posixpath
from typing import Any

from ddpm_seg import storage
from ddpm_seg.tasks import TASKS, UNLABELLED, Task
from ddpm_seg.yaml_files import read_yaml

MAX_BYTES = 2**20
_FIELDS = {"name", "class_names", "palette", "ignore_label", "merge", "mirror_pairs"}


def find_task(name_or_uri: str) -> Task:
    """The built-in task of that name, or the task in a `.yaml`, `.yml` or `.json` file.

    The file has `class_names` and may have `name` (default: the file's), `palette` ([red, green, blue] per class;
    default: distinct colours), `ignore_label` (default: 255), `merge` (the class of each annotated category, or the
    categories of each class) and `mirror_pairs` ([left class, right class] per pair that a mirror image swaps). Raises
    ValueError for an unknown name or an invalid file, OSError for a file that cannot be read.
    """
    if name_or_uri in TASKS:
        return TASKS[name_or_uri]
    stem, suffix = posixpath.splitext(posixpath.basename(name_or_uri))
    if suffix.lower() not in (".yaml", ".yml", ".json"):
        raise ValueError(
            f"task {name_or_uri!r} is not known; expected one of {', '.join(sorted(TASKS))}, "
            "or a .yaml or .json file of class names"
        )
    shown = storage.redact(name_or_uri)
    try:
        values, texts = _read(storage.read_bytes(name_or_uri, max_bytes=MAX_BYTES), suffix.lower())
        if (
            not isinstance(values, dict)
            or not set(values) <= _FIELDS
            or not isinstance(values.get("class_names"), list)
        ):
            raise ValueError(f"it is not a task; expected class_names, a list, and only keys of {sorted(_FIELDS)}")
        names = [_name(name, f"class_names[{index}]") for index, name in enumerate(texts["class_names"])]
        return Task.from_dict(
            {
                "name": _name(texts["name"], "name") if "name" in texts else stem,
                "class_names": names,
                "palette": values.get("palette", distinct_colors(len(names))),
                "ignore_label": values.get("ignore_label", UNLABELLED),
                "merge": _merge(texts.get("merge", {})),
                "mirror_pairs": _as_written(texts.get("mirror_pairs", [])),
            }
        )
    except ValueError as error:
        raise ValueError(f"{shown}: {error}") from None


def _read(data: bytes, suffix: str) -> tuple[Any, Any]:
    """Like `read_yaml`; JSON gets its own parser, as JSON indented with tabs is not YAML."""
    if suffix != ".json":
        return read_yaml(data)
    try:
        values = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"it is not JSON: {error}") from error
    return values, values


def _merge(merge: object) -> dict[str, str]:
    """Class by annotated category, from `category: class` or `class: [category, category]`."""
    if not isinstance(merge, dict):
        raise ValueError(
            f"merge is {str(merge)[:80]!r}; expected the class of each category (category: class), or the categories "
            "of each class (class: [category, category])"
        )
    found: dict[str, str] = {}
    for key, value in merge.items():
        categories, name = (value, key) if isinstance(value, list) else ([key], value)
        for category in categories:
            category = _name(category, f"merge of {key}")
            if found.setdefault(category, _name(name, f"merge of {key}")) != name:
                raise ValueError(f"merge has the category {category!r} in {found[category]!r} and in {name!r}")
    return found


def _name(text: object, key: str) -> str:
    """A name exactly as written: YAML would turn the class `no` into false."""
    if type(text) is int:  # from JSON
        return str(text)
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f"{key} is {text!r}; expected a name (in quotes, where it has a colon)")
    return text


def _as_written(pairs: object) -> object:
    """Pairs of names exactly as written; anything else as it is, for `Task` to refuse."""
    if not isinstance(pairs, list):
        return pairs
    return [[_name(one, "mirror_pairs") for one in pair] if isinstance(pair, list) else pair for pair in pairs]


def distinct_colors(count: int) -> list[list[int]]:
    """`count` RGB colours in which neighbours differ clearly: hues a golden ratio apart, in three brightnesses."""
    colors = []
    for index in range(count):
        red, green, blue = colorsys.hsv_to_rgb(
            index * 0.61803 % 1, (0.75, 0.55, 0.9)[index % 3], (0.9, 1, 0.65)[index % 3]
        )
        colors.append([round(255 * red), round(255 * green), round(255 * blue)])
    return colors
