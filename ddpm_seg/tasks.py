"""Tasks: the classes that a model distinguishes, their names and colours, and the label that is ignored.

The six tasks of DDPM-Seg (Baranchuk et al., ICLR 2022) have the numbers, names and colours of its published
classifiers, misspellings included, because other people's tables use the names as keys.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field
from typing import Any

UNLABELLED = 255
"""The pixel value for "no class". It limits a task to 255 classes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """Classes with the ids 0 to `num_classes` - 1.

    `ignore_label` is the id of a class that is neither trained nor scored on, 255 (`UNLABELLED`), or None.
    """

    name: str
    class_names: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    """One RGB colour per class, values 0 to 255."""
    ignore_label: int | None = UNLABELLED
    merge: tuple[tuple[str, str], ...] = ()
    """Pairs of an annotated category and the class that it is part of. A category that is a number is a mask's id."""
    mirror_pairs: tuple[tuple[str, str], ...] = field(default=(), compare=False)
    """Pairs of class names that a mirror image swaps, such as left eye and right eye. No part of what makes two tasks
    the same."""

    def __post_init__(self) -> None:
        for name in (self.name, *self.class_names, *(category for category, _ in self.merge)):
            if not isinstance(name, str) or not _is_unicode(name):
                raise ValueError(f"task {self.name!r}: name {name!r}; expected a string of text")
        if not 1 <= len(self.class_names) <= UNLABELLED:
            raise ValueError(f"task {self.name!r}: {len(self.class_names)} classes; expected 1 to {UNLABELLED}")
        if repeated := sorted({name for name in self.class_names if self.class_names.count(name) > 1}):
            raise ValueError(f"task {self.name!r}: class name {repeated[0]!r} appears more than once")
        if len(self.palette) != len(self.class_names):
            raise ValueError(
                f"task {self.name!r}: {len(self.palette)} colours for {len(self.class_names)} classes; "
                "expected one per class"
            )
        for color in self.palette:
            if len(color) != 3 or not all(type(value) is int and 0 <= value <= 255 for value in color):
                raise ValueError(f"task {self.name!r}: colour {color!r}; expected three integers from 0 to 255")
        known = (None, UNLABELLED, *range(self.num_classes))
        if type(self.ignore_label) not in (int, type(None)) or self.ignore_label not in known:
            raise ValueError(
                f"task {self.name!r}: ignore_label {self.ignore_label!r}; "
                f"expected None, {UNLABELLED} or a class id below {self.num_classes}"
            )
        self._check_merge()
        self._check_pairs()

    def _check_merge(self) -> None:
        categories = [category for category, _ in self.merge]
        for category, name in self.merge:
            if name not in self.class_names:
                raise ValueError(
                    f"task {self.name!r}: merge maps {category!r} to {name!r}, which is not a class; "
                    f"expected one of {', '.join(self.class_names)}"
                )
            if category in self.class_names and category != name and not category.isdecimal():
                raise ValueError(
                    f"task {self.name!r}: merge maps {category!r} to {name!r}, but {category!r} is a class itself; "
                    "rename one of them"
                )
        if repeated := sorted({category for category in categories if categories.count(category) > 1}):
            raise ValueError(f"task {self.name!r}: merge has the category {repeated[0]!r} more than once")

    @property
    def ids(self) -> dict[str, int]:
        """Class id of each name that annotations may use: the classes, and the categories that are merged into them."""
        own = {name: index for index, name in enumerate(self.class_names)}
        return own | {category: own[name] for category, name in self.merge if category not in own}

    @property
    def mask_ids(self) -> dict[int, int]:
        """Class id by the id in a mask, if `merge` numbers masks' ids; else empty: masks then hold class ids."""
        return {int(category): self.class_names.index(name) for category, name in self.merge if category.isdecimal()}

    def _check_pairs(self) -> None:
        named = [name for pair in self.mirror_pairs for name in pair]
        if any(len(pair) != 2 for pair in self.mirror_pairs):
            raise ValueError(f"task {self.name!r}: mirror_pairs must be pairs of class names, got {self.mirror_pairs}")
        if unknown := [name for name in named if name not in self.class_names]:
            raise ValueError(f"task {self.name!r}: mirror_pairs has {unknown[0]!r}, which is no class")
        if repeated := [name for name in named if named.count(name) > 1]:
            raise ValueError(f"task {self.name!r}: mirror_pairs has {repeated[0]!r} twice")

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def mirrored_ids(self) -> list[int]:
        """For each class, the id of the class that it is in a mirror image."""
        others = {one: other for pair in self.mirror_pairs for one, other in (pair, pair[::-1])}
        return [self.class_names.index(others.get(name, name)) for name in self.class_names]

    def to_dict(self) -> dict[str, Any]:
        """A dictionary for JSON; `Task.from_dict` is its inverse."""
        values = {**asdict(self), "class_names": list(self.class_names), "palette": [list(c) for c in self.palette]}
        del values["merge"], values["mirror_pairs"]
        merge = {"merge": dict(self.merge)} if self.merge else {}
        pairs = {"mirror_pairs": [list(pair) for pair in self.mirror_pairs]} if self.mirror_pairs else {}
        return {**values, **merge, **pairs}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Task:
        """The task that `to_dict` described. Raises ValueError for a missing, unknown or wrong field."""
        expected = {"name", "class_names", "palette", "ignore_label"}
        if set(values) - {"merge", "mirror_pairs"} != expected:
            raise ValueError(f"task: fields {sorted(values)}; expected {sorted(expected)}")
        names, palette = values["class_names"], values["palette"]
        if not (isinstance(names, list) and isinstance(palette, list) and all(isinstance(c, list) for c in palette)):
            raise ValueError("task: class_names must be a list, and palette a list of [red, green, blue]")
        pairs = values.get("mirror_pairs", [])
        if not (isinstance(pairs, list) and all(isinstance(pair, list) for pair in pairs)):
            raise ValueError(f"task: mirror_pairs is {pairs!r}; expected a list of [left class, right class]")
        return cls(
            name=values["name"],
            class_names=tuple(names),
            palette=tuple(tuple(color) for color in palette),
            ignore_label=values["ignore_label"],
            merge=_merge_of(values.get("merge", {})),
            mirror_pairs=tuple(tuple(pair) for pair in pairs),
        )


def _merge_of(merge: object) -> tuple[tuple[str, str], ...]:
    if not isinstance(merge, dict) or not all(isinstance(name, str) for pair in merge.items() for name in pair):
        raise ValueError("task: merge must map names of annotated categories to names of classes")
    return tuple(sorted(merge.items()))


def _is_unicode(text: str) -> bool:
    """Whether `text` can be encoded as UTF-8: JSON escapes can spell half of a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _task(name: str, *, ignore_label: int | None, classes: str) -> Task:
    """Reads `RRGGBB class name | RRGGBB class name | …` in the order of the class ids."""
    cells = [re.sub(r"\s+", " ", cell.strip()).partition(" ") for cell in classes.split("|")]
    return Task(
        name=name,
        class_names=tuple(class_name for _, _, class_name in cells),
        palette=tuple((int(rgb[0:2], 16), int(rgb[2:4], 16), int(rgb[4:6], 16)) for rgb, _, _ in cells),
        ignore_label=ignore_label,
    )


_ALL = (
    _task(
        "bedroom_28",
        ignore_label=0,
        classes="""
        ffffff background  |  eee566 bed  |  ff4845 bed***footboard  |  7c6322 bed***headboard  |
        c17f0f bed***side rail  |  6ab115 carpet  |  f8d52b ceiling  |  fc9b53 chandelier / ceiling fan blade  |
        dc934d curtain  |  635303 cushion  |  74748a floor  |  3fb618 table/nightstand/dresser  |
        c8e225 table/nightstand/dresser***top  |  e1b8a1 picture / mirrow  |  e905db pillow  |
        8eacf8 lamp***column  |  997092 lamp***shade  |  2670fe wall  |  e51e8d window  |  63cdff curtain rod  |
        4a3b53 window***frame  |  ba0900 chair  |  6b7900 picture / mirror***frame  |  00c2a0 plinth  |
        ffaa92 door / door frame  |  ff90c9 pouf  |  b903aa wardrobe  |  ddefff plant  |  000035 table staff
        """,
    ),
    _task(
        "ffhq_34",
        ignore_label=255,
        classes="""
        ffffff background  |  70826b head  |  daf351 head***cheek  |  3d77fc head***chin  |  d7edc0 head***ear  |
        5fc953 head***ear***helix  |  047e60 head***ear***lobule  |  be0390 head***eye***bottom lid  |
        293dba head***eye***eyelashes  |  056f68 head***eye***iris  |  95e29c head***eye***pupil  |
        cbe8f7 head***eye***sclera  |  ad9fda head***eye***tear duct  |  fe7762 head***eye***top lid  |
        88d245 head***eyebrow  |  2c5cd4 head***forehead  |  87aa7d head***frown  |  365878 head***hair  |
        ae1f25 head***hair***sideburns  |  627619 head***jaw  |  3a0a4d head***moustache  |
        928bfa head***mouth***inferior lip  |  21f513 head***mouth***oral commissure  |
        482f42 head***mouth***superior lip  |  f8f0a9 head***mouth***teeth  |  6371a4 head***neck  |
        dd6418 head***nose  |  9bf706 head***nose***ala of nose  |  5daa4f head***nose***bridge  |
        a4baf3 head***nose***nose tip  |  9d1be6 head***nose***nostril  |  567eb9 head***philtrum  |
        2aeba7 head***temple  |  f0ab9d head***wrinkles
        """,
    ),
    _task(
        "cat_15",
        ignore_label=255,
        classes="""
        ffffff background  |  be9999 back  |  faaa1e belly  |  dcdc00 chest  |  6b8e23 leg  |  66669c paw  |
        98fb98 head  |  770b20 ear  |  f423e8 eye  |  dc143c mouth  |  345354 tongue  |  c2577d nose  |
        8fb0ff tail  |  1f66d3 whiskers  |  688365 neck
        """,
    ),
    _task(
        "horse_21",
        ignore_label=255,
        classes="""
        ffffff background  |  ff4a46 person  |  008941 back  |  006fa6 barrel  |  a30059 bridle  |  ffdbe5 chest  |
        7a4900 ear  |  0000a6 eye  |  63ffac forelock  |  b79762 head  |  004d43 hoof  |  8fb0ff leg  |
        f1266e mane  |  1bd269 muzzle  |  809693 neck  |  e4e69e nostril  |  a0886a tail  |  4fc601 thigh  |
        3b5dff saddle  |  73d6d1 shoulder  |  ff2f80 leg protection
        """,
    ),
    _task(
        "celeba_19",
        ignore_label=255,
        classes="""
        ffffff background  |  eee566 cloth  |  fa9632 ear_r  |  7c6322 eye_g  |  c17f0f hair  |  e16012 hat  |
        dc934d l_brow  |  635303 l_ear  |  74748a l_eye  |  c8e225 l_lip  |  e1b8a1 mouth  |  8eacf8 neck  |
        997092 neck_l  |  2670fe nose  |  e51e8d r_brow  |  345354 r_ear  |  c2577d r_eye  |  f8d52a skin  |
        1f66d3 u_lip
        """,
    ),
    _task(
        "ade_bedroom_30",
        ignore_label=255,
        classes="""
        f09cce wall  |  45585d bed  |  f031b8 floor  |  1b6b7e table  |  3252f1 lamp  |  36fa93 ceiling  |
        9cd503 painting  |  b06c4f windowpane  |  fb9695 pillow  |  423322 curtain  |  d26135 cushion  |
        1e3566 door  |  e8a476 chair  |  cc9611 cabinet  |  6556b2 chest  |  f914d5 mirror  |  362352 rug  |
        9d44d8 armchair  |  3aa149 book  |  ae4343 sconce  |  c1b54e plant  |  a93cb2 wardrobe  |  dccca6 clock  |
        047f55 light  |  f56ad8 flower  |  deaca8 vase  |  549469 fan  |  89dc59 box  |  44fc7e shelf  |
        1dc1bb television
        """,
    ),
    _task(
        "avatars_10",
        ignore_label=None,
        classes="""
        eef1f4 background  |  f2c19b skin  |  6b4a36 hair  |  2f7fd6 eyes  |  3c3c46 eyebrows  |  e58a4e nose  |
        d6336c mouth  |  9c6a3c facial hair  |  8b5fd0 accessory  |  3aa88a clothing
        """,
    ),
)

TASKS: dict[str, Task] = {task.name: task for task in _ALL}
"""The built-in tasks by name. `bedroom_28` has 29 entries (its background is ignored); in `avatars_10`, "hair" also
covers hats."""
