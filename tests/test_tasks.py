"""The tables of classes: numbered as published, and fit to be written into a bundle and read back."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from ddpm_seg.tasks import TASKS, Task


def task(**changes: Any) -> Task:
    fields: dict[str, Any] = {"name": "t", "class_names": ("a", "b"), "palette": ((0, 0, 0), (255, 255, 255))}
    return Task(**fields | changes)


# From the experiment files and data_util.py of yandex-research/ddpm-segmentation.
@pytest.mark.parametrize(
    ("name", "num_classes", "ignore_label", "known"),
    [
        (
            "bedroom_28",
            29,
            0,
            {1: "bed", 7: "chandelier / ceiling fan blade", 13: "picture / mirrow", 28: "table staff"},
        ),
        ("ffhq_34", 34, 255, {2: "head***cheek", 17: "head***hair", 33: "head***wrinkles"}),
        ("cat_15", 15, 255, {6: "head", 13: "whiskers", 14: "neck"}),
        ("horse_21", 21, 255, {1: "person", 20: "leg protection"}),
        ("celeba_19", 19, 255, {2: "ear_r", 17: "skin", 18: "u_lip"}),
        ("ade_bedroom_30", 30, 255, {0: "wall", 7: "windowpane", 29: "television"}),
        ("avatars_10", 10, None, {0: "background", 2: "hair", 7: "facial hair", 9: "clothing"}),
    ],
)
def test_published_tasks(name: str, num_classes: int, ignore_label: int | None, known: dict[int, str]) -> None:
    published = TASKS[name]
    assert (published.name, published.num_classes, published.ignore_label) == (name, num_classes, ignore_label)
    assert {index: published.class_names[index] for index in known} == known
    assert len(set(published.palette)) == num_classes


def test_published_colors() -> None:
    assert TASKS["ffhq_34"].palette[1] == (112, 130, 107)  # 0.4420, 0.5100, 0.4234 of 255, cut to integers
    assert TASKS["bedroom_28"].palette[28] == (0, 0, 53)
    assert TASKS["ade_bedroom_30"].palette[0] == (240, 156, 206)


@pytest.mark.parametrize("published", TASKS.values(), ids=str)
def test_json_round_trip(published: Task) -> None:
    assert Task.from_dict(json.loads(json.dumps(published.to_dict()))) == published


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"class_names": ()}, "0 classes"),
        ({"class_names": tuple(map(str, range(256))), "palette": ((0, 0, 0),) * 256}, "256 classes"),
        ({"class_names": ("a", "a")}, "'a' appears more than once"),
        ({"palette": ((0, 0, 0),)}, "1 colours for 2 classes"),
        ({"palette": ((0, 0, 0), (0, 0, 256))}, "256"),
        ({"palette": ((0, 0, 0), (0, 0, 0.5))}, "integers"),
        ({"ignore_label": 2}, "ignore_label 2"),
        ({"ignore_label": -1}, "ignore_label -1"),
        ({"mirror_pairs": (("a", "c"),)}, "mirror_pairs has 'c', which is no class"),
        ({"mirror_pairs": (("a", "a"),)}, "mirror_pairs has 'a' twice"),
        ({"mirror_pairs": (("a", "b"), ("b", "a"))}, "mirror_pairs has 'a' twice"),
        ({"mirror_pairs": (("a", "b", "a"),)}, "must be pairs"),
    ],
)
def test_a_wrong_task_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        task(**changes)


def test_pairs_of_a_mirror_image() -> None:
    plain, paired = task(), task(mirror_pairs=(("a", "b"),))
    assert (plain.mirrored_ids, paired.mirrored_ids) == ([0, 1], [1, 0])
    assert paired == plain  # of the same classes
    assert "mirror_pairs" not in plain.to_dict()  # so bundles without pairs keep their model_id
    again = Task.from_dict(json.loads(json.dumps(paired.to_dict())))
    assert again.mirror_pairs == paired.mirror_pairs


@pytest.mark.parametrize("pairs", ["ab", [1], {"a": "b"}, [["a", 1]], [["a", []]], [[]], None])
def test_pairs_that_are_none_are_refused(pairs: object) -> None:
    with pytest.raises(ValueError, match="mirror_pairs"):
        Task.from_dict(task().to_dict() | {"mirror_pairs": pairs})


@pytest.mark.parametrize("change", [{"palette": [0, 1]}, {"class_names": "ab"}, {"colour": 1}])
def test_a_wrong_dictionary_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="task"):
        Task.from_dict(task().to_dict() | change)


def test_merged_categories_are_names_of_their_class() -> None:
    parts = dataclasses.replace(task(), merge=(("left", "b"), ("right", "b"), ("3", "a")))
    assert parts.ids == {"a": 0, "b": 1, "left": 1, "right": 1, "3": 0}
    assert parts.mask_ids == {3: 0}
    assert Task.from_dict(json.loads(json.dumps(parts.to_dict()))).ids == parts.ids
    assert "merge" not in task().to_dict()  # the model_id of every earlier bundle depends on it


@pytest.mark.parametrize(
    ("merge", "message"),
    [
        ((("left", "c"),), "merge maps 'left' to 'c', which is not a class; expected one of a, b"),
        ((("a", "b"),), "merge maps 'a' to 'b', but 'a' is a class itself"),
        ((("left", "a"), ("left", "b")), "the category 'left' more than once"),
    ],
)
def test_a_wrong_merge_is_refused(merge: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        task(merge=merge)
