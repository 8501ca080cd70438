from __future__ import annotations

from pathlib import Path

import pytest

from ddpm_seg.data.annotations.load import load_annotations
from ddpm_seg.data.annotations.options import AnnotationOptions
from tests.data.annotations.fuzz_annotations import FORMS, MASK, SIZE, TASK, fuzz, prepare, uri_of


@pytest.mark.parametrize("form", FORMS)
def test_without_a_mutation_every_form_is_read(tmp_path: Path, form: str) -> None:
    file = prepare(tmp_path, form)
    file.write_bytes(FORMS[form][1](None))
    found = load_annotations(
        uri_of(file, form), image_size=SIZE, task=TASK, options=AnnotationOptions(uncovered="wall")
    )
    for one in found:
        assert one.label[:15].tolist() == MASK[:15].tolist()


def test_mutated_files_are_read_or_refused(tmp_path: Path) -> None:
    outcomes = fuzz(tmp_path, count=297, seed=0)
    assert outcomes.total() == 297
    assert all(outcomes[form, "refused"] for form in FORMS)
