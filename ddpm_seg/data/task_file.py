"""A user's own task: a YAML or JSON file of class names."""

from __future__ import annotations

import colorsys
import posixpath

import yaml

from ddpm_seg import storage
from ddpm_seg.tasks import TASKS, UNLABELLED, Task

_FIELDS = {"name", "class_names", "palette", "ignore_label"}


def find_task(name_or_uri: str) -> Task:
    """The task of that name, or the one that a `.yaml`, `.yml` or `.json` file describes.

    The file holds `class_names`, and may hold `name` (else the file's), `palette` ([red, green, blue] a class, else
    distinct colours) and `ignore_label` (else 255). Raises ValueError for an unknown name or a wrong file, OSError for
    one that cannot be read.
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
        values = yaml.safe_load(storage.read_bytes(name_or_uri))  # JSON is YAML
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{shown} is not YAML: {error}") from None
    if not isinstance(values, dict) or not set(values) <= _FIELDS or not isinstance(values.get("class_names"), list):
        raise ValueError(f"{shown} is not a task; expected class_names, a list, and nothing but {sorted(_FIELDS)}")
    names = [str(name) for name in values["class_names"]]
    try:
        return Task.from_dict(
            {
                "name": values.get("name", stem),
                "class_names": names,
                "palette": values.get("palette", distinct_colors(len(names))),
                "ignore_label": values.get("ignore_label", UNLABELLED),
            }
        )
    except ValueError as error:
        raise ValueError(f"{shown}: {error}") from None


def distinct_colors(count: int) -> list[list[int]]:
    """`count` RGB colours, neighbours far apart: hues a golden ratio of the circle on, in three brightnesses."""
    colors = []
    for index in range(count):
        red, green, blue = colorsys.hsv_to_rgb(
            index * 0.61803 % 1, (0.75, 0.55, 0.9)[index % 3], (0.9, 1, 0.65)[index % 3]
        )
        colors.append([round(255 * red), round(255 * green), round(255 * blue)])
    return colors
