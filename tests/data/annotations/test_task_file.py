from __future__ import annotations

import json
from pathlib import Path

import pytest

from ddpm_seg.data.annotations.task_file import distinct_colors, find_task
from ddpm_seg.tasks import TASKS


def test_a_name_gives_the_task_in_the_box() -> None:
    assert find_task("ffhq_34") is TASKS["ffhq_34"]


def test_class_names_are_enough(tmp_path: Path) -> None:
    path = tmp_path / "pets.yaml"
    path.write_text("class_names: [wall, cat, no, 7, on, 1e3, 007, null]\n")
    task = find_task(str(path))
    names = ("wall", "cat", "no", "7", "on", "1e3", "007", "null")
    assert (task.name, task.class_names, task.ignore_label) == ("pets", names, 255)
    assert len(set(task.palette)) == 8


def test_json_may_be_indented_with_tabs(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    path.write_text(json.dumps({"class_names": ["no", 7]}, indent="\t"))
    assert find_task(str(path)).class_names == ("no", "7")


def test_a_whole_task_round_trips_as_json(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    path.write_text(json.dumps(TASKS["horse_21"].to_dict()))
    assert find_task(str(path)) == TASKS["horse_21"]


def test_pairs_that_a_mirror_swaps(tmp_path: Path) -> None:
    path = tmp_path / "t.yaml"
    path.write_text("class_names: [no, left eye, right eye, on]\nmirror_pairs:\n- [left eye, right eye]\n- [no, on]\n")
    assert find_task(str(path)).mirrored_ids == [3, 2, 1, 0]


def test_colours_are_distinct() -> None:
    assert len({tuple(color) for color in distinct_colors(255)}) == 255


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("class_names: cat", "is not a task; expected class_names, a list"),
        ("classes: [cat]", "is not a task"),
        ("[cat]", "is not a task"),
        ("class_names: [a, a]", "t.yaml: .*'a' appears more than once"),
        ("class_names: [a]\npalette: [[1, 2]]", "t.yaml: .*expected three integers"),
        ("class_names: [a]\nignore_label: 9", "t.yaml: .*ignore_label 9"),
        ("class_names: [", "is not YAML"),
        ("class_names:\n\t- a\n\t- b\n", "t.yaml: it is not YAML: .* in line 2; indent with spaces, not tabs"),
        ("class_names:\n- a\n-\n", r"class_names\[1\] is ''; expected a name"),
        ("class_names:\n- a: b\n", r"class_names\[0\] is {'a': 'b'}; expected a name \(in quotes"),
        ("class_names: [a]\nname: []\n", r"name is \[\]; expected a name"),
        ("class_names: [a, b]\nmirror_pairs: [a, b]\n", r"mirror_pairs is \['a', 'b'\]; expected a list of"),
        ("class_names: [a, b]\nmirror_pairs: [[a, c]]\n", "mirror_pairs has 'c', which is no class"),
    ],
)
def test_a_wrong_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "t.yaml").write_text(text)
    with pytest.raises(ValueError, match=message) as raised:
        find_task(str(tmp_path / "t.yaml"))
    assert "\n" not in str(raised.value)


def test_an_unknown_name_or_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="task 'nothing' is not known; expected one of ade_bedroom_30, "):
        find_task("nothing")
    with pytest.raises(FileNotFoundError, match=r"t\.yaml"):
        find_task(str(tmp_path / "t.yaml"))
