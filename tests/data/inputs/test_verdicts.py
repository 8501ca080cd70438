"""Files that choose images: plain lists, and the verdicts that a report saves."""

from __future__ import annotations

from pathlib import Path

import pytest

from ddpm_seg.data.inputs.verdicts import read_chosen

VERDICTS = """uri,verdict,run_id
s3://b/a.png,accept,run-000003
"s3://b/with, comma.png",Reject,run-000003
s3://b/later.png,look again,run-000003
s3://b/none.png,,run-000003
"""


def write(tmp_path: Path, text: str, name: str = "verdicts.csv") -> str:
    (tmp_path / name).write_text(text)
    return str(tmp_path / name)


def test_only_the_images_with_the_verdict_are_chosen(tmp_path: Path) -> None:
    file = write(tmp_path, VERDICTS)
    assert set(read_chosen(file, "accept").names) == {"s3://b/a.png"}
    rejected = read_chosen(file, "reject")
    assert set(rejected.names) == {"s3://b/with, comma.png"}
    assert rejected.entries["s3://b/with, comma.png"].run_id == "run-000003"


def test_a_spreadsheet_may_have_saved_it_again(tmp_path: Path) -> None:
    text = "\ufeff" + VERDICTS.replace(",", ";").replace("with;", "with,").replace("\n", "\r\n")
    assert set(read_chosen(write(tmp_path, text), "accept").names) == {"s3://b/a.png"}


@pytest.mark.parametrize("name", ["list.txt", "list.csv"])
@pytest.mark.parametrize("verdict", ["accept", "reject"])
def test_a_plain_list_chooses_all_its_images_by_name_and_by_uri(tmp_path: Path, name: str, verdict: str) -> None:
    file = write(tmp_path, "photos/a.png\nsample:0/000000003\n", name)
    names = set(read_chosen(file, verdict).names)  # type: ignore[arg-type]
    assert {f"{tmp_path}/photos/a.png", "sample:0/000000003"} <= names


def test_of_two_verdicts_the_later_one_counts(tmp_path: Path) -> None:
    file = write(tmp_path, VERDICTS + "s3://b/a.png,reject,run-000004\n")
    assert "s3://b/a.png" in read_chosen(file, "reject").names
    with pytest.raises(ValueError, match="lists no images with the verdict 'accept'"):
        read_chosen(file, "accept")


@pytest.mark.parametrize(
    ("text", "name", "message"),
    [
        (
            "uri,verdict\na.png,yes\n",
            "v.csv",
            "a.png has the verdict 'yes'; expected accept, reject, look again",
        ),
        ('uri,verdict\n"a.png,accept\n', "v.csv", "a faulty line"),
        ("", "v.txt", "lists no images"),
        ("a.png\n", "v.json", "expected a file .txt, .csv"),
    ],
)
def test_a_file_that_cannot_be_used_says_why(tmp_path: Path, text: str, name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_chosen(write(tmp_path, text, name), "accept")


def test_images_that_are_not_there_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    chosen = read_chosen(write(tmp_path, "s3://b/a.png\ns3://b/gone.png\n", "list.txt"), "accept")
    chosen.check_found({"s3://b/a.png", "s3://b/gone.png"}, "the table")
    assert not caplog.text
    chosen.check_found({"s3://b/a.png"}, "the table")
    assert "the table lacks 1 images" in caplog.text
    assert "s3://b/gone.png" in caplog.text
    with pytest.raises(ValueError, match="has none of the images"):
        chosen.check_found({"s3://b/other.png"}, "the table")
