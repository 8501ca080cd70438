"""Seeded mutations of annotation files: each is either read, or refused with one AnnotationError.

    python -m tests.data.annotations.fuzz_annotations --count 5000 --seed 1

Each has 10 s and 2 GB, and opens no file outside of its folder. Prints how many of each form were read and refused.
"""

from __future__ import annotations

import argparse
import base64
import copy
import io
import json
import os
import random
import re
import resource
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from pycocotools import mask as codec

from ddpm_seg.data.annotations.errors import AnnotationError
from ddpm_seg.data.annotations.forms.brush_rle import encode_brush
from ddpm_seg.data.annotations.load import load_annotations
from ddpm_seg.data.annotations.options import AnnotationOptions
from ddpm_seg.tasks import Task
from tests.fuzzing import change_bytes

SECONDS, MEMORY = 10, 2 << 30
SIZE = 16
TASK = Task(name="two", class_names=("wall", "cat"), palette=((9, 9, 9), (200, 0, 0)), ignore_label=None)
MASK = np.zeros((SIZE, SIZE), np.uint8)
MASK[4:9, 2:13] = 1

ODD: list[Any] = [
    None, True, False, 0, -1, 1, 3, 2**31, 2**63, 10**30, 1e9, -1e300, float("nan"), float("inf"), 0.5, "", "a", "10",
    "../../../etc/passwd", "/etc/passwd", "file:///etc/passwd", "a.png\x00", "\ud800", "x" * 5000, [], {}, [[]], [None],
    {"size": [10**5, 10**5], "counts": [10**10]}, {"counts": "PPYo0"}, [[0, 0, 1e9, 0, 5, 5]], [[1, 1, 4, 4]], [1] * 7,
]  # fmt: skip


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def coco() -> dict[str, Any]:
    runs = codec.encode(np.asfortranarray(MASK))
    objects: list[Any] = [
        [[2, 4, 13, 4, 13, 9, 2, 9]],
        {"size": [SIZE, SIZE], "counts": runs["counts"].decode()},
        {"size": [SIZE, SIZE], "counts": [36, 5, *[11, 5] * 10, 55]},
    ]
    annotations = [{"id": i, "image_id": i, "category_id": 2, "segmentation": one} for i, one in enumerate(objects)]
    images = [{"id": i, "file_name": f"{i}.png", "height": SIZE, "width": SIZE} for i in range(3)]
    return {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "wall"}, {"id": 2, "name": "cat"}],
    }


def panoptic() -> dict[str, Any]:
    about = {"image_id": 0, "file_name": "0.png", "segments_info": [{"id": 7, "category_id": 2}]}
    content = coco()
    return {**content, "images": content["images"][:1], "annotations": [about]}


def label_studio() -> list[dict[str, Any]]:
    value = {"format": "rle", "rle": encode_brush(MASK == 1), "brushlabels": ["cat"]}
    region = {"type": "brushlabels", "original_width": SIZE, "original_height": SIZE, "value": value}
    points = [[100 * x / SIZE, 100 * y / SIZE] for x, y in ((2, 4), (13, 4), (13, 9), (2, 9))]
    polygon = {**region, "type": "polygonlabels", "value": {"points": points, "polygonlabels": ["cat"]}}
    return [
        {"id": i, "data": {"image": f"{i}.png"}, "annotations": [{"result": [region, polygon], "updated_at": "2026"}]}
        for i in range(2)
    ]


def labelme() -> dict[str, Any]:
    box = png(MASK[4:9, 2:13])
    shapes: list[Any] = [
        {"label": "cat", "shape_type": "rectangle", "points": [[2, 4], [12, 8]]},
        {"label": "cat", "shape_type": "circle", "points": [[7, 6], [7, 7]]},
        {"label": "cat", "shape_type": "polygon", "points": [[2, 4], [13, 4], [13, 9], [2, 9]], "group_id": None},
        {"label": "cat", "shape_type": "mask", "points": [[2, 4], [12, 8]], "mask": base64.b64encode(box).decode()},
    ]
    return {"version": "5.7.0", "imagePath": "0.png", "imageHeight": SIZE, "imageWidth": SIZE, "shapes": shapes}


CVAT = f"""<annotations><version>1.1</version><image id="0" name="0.png" width="{SIZE}" height="{SIZE}">
<mask label="cat" rle="0, 55" left="2" top="4" width="11" height="5" z_order="0"></mask></image>
<image id="1" name="1.png" width="{SIZE}" height="{SIZE}"><box label="cat" xtl="0" ytl="15" xbr="0" ybr="15"></box>
<polygon label="cat" points="2,4;13,4;13,9;2,9" z_order="1"></polygon></image></annotations>"""


YOLO = "1 0.125 0.25 0.8125 0.25 0.8125 0.5625 0.125 0.5625\n0 0.5 0.96875 0.25 0.0625\n"
NAMES = "path: .\nnames:\n  0: wall\n  1: cat\n"
LABEL_MAP = "# label:color_rgb:parts:actions\nwall:0,0,0::\ncat:200,0,0::\n"


def table() -> bytes:
    sink = io.BytesIO()
    rows = [{"uri": f"{i}.png", "mask": {"bytes": png(MASK), "path": None}, "status": "ok"} for i in range(2)]
    pq.write_table(pa.Table.from_pylist(rows), sink)
    return sink.getvalue()


def npy() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, MASK)
    return buffer.getvalue()


def mutate_json(content: Any, generator: random.Random) -> bytes:
    """Some values, anywhere in the tree, replaced, removed, repeated or moved into a list."""
    content = copy.deepcopy(content)
    for _ in range(generator.randint(1, 3)):
        node = content
        while True:
            keys = list(node) if isinstance(node, dict) else list(range(len(node)))
            if not keys:
                break
            key = generator.choice(keys)
            if not isinstance(node[key], dict | list) or not node[key] or generator.random() < 0.25:
                change(node, key, generator)
                break
            node = node[key]
    text = json.dumps(content).encode()
    return change_bytes(text, generator) if generator.random() < 0.1 else text


def change(node: Any, key: Any, generator: random.Random) -> None:
    how = generator.choice(["odd", "odd", "odd", "remove", "nest", "repeat"])
    if how == "remove":
        del node[key]
    elif how == "nest":
        node[key] = [node[key]]
    elif how == "repeat" and isinstance(node, list):
        node.append(copy.deepcopy(node[key]))
    else:
        node[key] = copy.deepcopy(generator.choice(ODD))


def mutate_xml(text: str, generator: random.Random) -> bytes:
    """An attribute's value replaced, or bytes."""
    if generator.random() < 0.5:
        return change_bytes(text.encode(), generator)
    parts = text.split('"')
    parts[generator.randrange(1, len(parts), 2)] = generator.choice(
        ["", "-1", "1e9", "nan", "99999999999", "0, -5", "0, " * 2000, "1,1;1e9,1;2,2", "a", "inf,inf;0,0;1,1", "é"]
    )
    return '"'.join(parts).encode()


def mutate_text(text: str, generator: random.Random) -> bytes:
    """A word or a number replaced, or bytes."""
    if generator.random() < 0.5:
        return change_bytes(text.encode(), generator)
    words = re.split(r"([\s:,]+)", text)
    words[generator.randrange(0, len(words), 2)] = generator.choice(
        ["", "-1", "1e9", "nan", "99999999999", "0 " * 2000, "[" * 2000, "a", "inf", "é", "../../etc/passwd", "&a *a"]
    )
    return "".join(words).encode()


FORMS: dict[str, tuple[str, Callable[[random.Random | None], bytes]]] = {
    "coco": ("x.json", lambda g: json.dumps(coco()).encode() if g is None else mutate_json(coco(), g)),
    "panoptic": ("x.json", lambda g: json.dumps(panoptic()).encode() if g is None else mutate_json(panoptic(), g)),
    "label studio": (
        "x.json",
        lambda g: json.dumps(label_studio()).encode() if g is None else mutate_json(label_studio(), g),
    ),
    "labelme": ("x.json", lambda g: json.dumps(labelme()).encode() if g is None else mutate_json(labelme(), g)),
    "cvat": ("x.xml", lambda g: CVAT.encode() if g is None else mutate_xml(CVAT, g)),
    "parquet": ("x.parquet", lambda g: table() if g is None else change_bytes(table(), g)),
    "npy": ("0.npy", lambda g: npy() if g is None else change_bytes(npy(), g)),
    "yolo": ("labels/0.txt", lambda g: YOLO.encode() if g is None else mutate_text(YOLO, g)),
    "yolo names": ("data.yaml", lambda g: NAMES.encode() if g is None else mutate_text(NAMES, g)),
    "voc": ("labelmap.txt", lambda g: LABEL_MAP.encode() if g is None else mutate_text(LABEL_MAP, g)),
    "png": ("masks/0.png", lambda g: png(MASK) if g is None else change_bytes(png(MASK), g)),
}


FOLDERS = {"png": "images", "yolo": "images", "yolo names": "images", "voc": "JPEGImages", "npy": ""}
"""Forms that are folders, and where the image is in them; the others are files beside three images."""


def prepare(folder: Path, form: str) -> Path:
    """The images that the files of this form are of; where the annotation file belongs."""
    place = folder / form.replace(" ", "-")
    images = place / FOLDERS.get(form, "")
    images.mkdir(parents=True)
    for number in range(1 if form in FOLDERS else 3):
        (images / f"{number}.png").write_bytes(png(np.full((SIZE, SIZE, 3), 60 * number, np.uint8)))
    if form == "panoptic":
        (place / "x").mkdir()
        segments = np.zeros((SIZE, SIZE, 3), np.uint8)
        segments[MASK == 1, 0] = 7
        (place / "x" / "0.png").write_bytes(png(segments))
    if form == "yolo names":
        (place / "labels").mkdir()
        (place / "labels" / "0.txt").write_text(YOLO)
    if form == "voc":
        (place / "SegmentationClass").mkdir()
        (place / "SegmentationClass" / "0.png").write_bytes(png(MASK[..., None] * np.array([200, 0, 0], np.uint8)))
    file = place / FORMS[form][0]
    file.parent.mkdir(exist_ok=True)
    return file


def uri_of(file: Path, form: str) -> str:
    """What `--images` takes for a file that `prepare` gave a place."""
    return str(file).removesuffix(f"/{FORMS[form][0]}") if form in FOLDERS else str(file)


def read(file: Path, form: str) -> str:
    """ "read" or "refused"; anything else is raised."""
    signal.alarm(SECONDS)
    try:
        load_annotations(uri_of(file, form), image_size=SIZE, task=TASK, options=AnnotationOptions(uncovered="wall"))
    except AnnotationError as error:
        return "refused" if str(error).strip() else "refused without a word"
    finally:
        signal.alarm(0)
    return "read"


def watch_opens(folder: str) -> list[str]:
    """Paths that are opened outside of `folder`, but for Python's own modules and the system's."""
    strange: list[str] = []
    own = (folder, sys.prefix, sys.base_prefix, str(Path(__file__).parents[3]), "/proc/self", "/dev/null", "/usr/")

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(arguments[0], str | bytes):
            path = os.fsdecode(arguments[0])
            if path.startswith("/") and not path.startswith(own):
                strange.append(path)

    sys.addaudithook(hook)
    return strange


def fuzz(folder: Path, count: int, seed: int) -> Counter[tuple[str, str]]:
    """`count` mutated files; outcomes by form. Raises what a file must not do, with the seed that shows it again."""
    generator = random.Random(seed)
    files = {form: prepare(folder, form) for form in FORMS}
    strange, outcomes = watch_opens(str(folder)), Counter[tuple[str, str]]()
    for number in range(count):
        form = list(FORMS)[number % len(FORMS)]
        own_seed = generator.getrandbits(48)
        files[form].write_bytes(FORMS[form][1](random.Random(own_seed)))
        start = time.monotonic()
        try:
            outcomes[form, read(files[form], form)] += 1
            assert not strange, f"opened {strange}"
        except BaseException as error:
            error.add_note(f"form {form}, mutation {own_seed}, after {time.monotonic() - start:.1f} s: {files[form]}")
            raise
    return outcomes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    limit = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    with tempfile.TemporaryDirectory() as folder:
        outcomes = fuzz(Path(folder), options.count, options.seed)
    for form in FORMS:
        print(f"{form:<14}{outcomes[form, 'read']:>6} read {outcomes[form, 'refused']:>6} refused")


if __name__ == "__main__":
    main()
