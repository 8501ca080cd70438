"""Names of samples: read as they are written, and found again through the list of an export."""

from __future__ import annotations

from pathlib import Path

import pytest

from ddpm_seg.data.sample_names import SampleFinder, SampleName


@pytest.mark.parametrize("sample", [SampleName(0, 0), SampleName(2**63 - 1, 10**10), SampleName(7, 123)])
def test_a_name_is_read_as_it_is_written(sample: SampleName) -> None:
    assert SampleName.parse(str(sample)) == sample
    assert SampleFinder().find(str(sample)) == sample


def test_names_sort_as_their_numbers_do() -> None:
    samples = [SampleName(3, number) for number in (0, 9, 10, 99_999, 100_000)]
    assert sorted(map(str, samples)) == [str(one) for one in samples]


@pytest.mark.parametrize(
    "uri", ["sample 3", "sample:", "sample:1", "sample:-1/2", "sample:a/b", "xsample:1/2", "s3://b/k"]
)
def test_other_names_are_none(uri: str) -> None:
    assert SampleName.parse(uri) is None


@pytest.mark.parametrize("place", ["", "images/"])
def test_a_picture_is_found_in_the_list_of_its_export(tmp_path: Path, place: str) -> None:
    (tmp_path / "pictures.csv").write_text("name,uri,uncertainty\na-1,sample:5/000000007,0.1\nb,/photos/b.jpg,0.2\n")
    finder = SampleFinder()
    assert finder.find(str(tmp_path / f"{place}a-1.png")) == SampleName(5, 7)
    assert finder.find(str(tmp_path / f"{place}b.png")) is None
    assert finder.find(str(tmp_path / f"{place}c.png")) is None
    assert finder.find(str(tmp_path / "other" / "more" / "a-1.png")) is None
