from __future__ import annotations

from pathlib import Path

import pytest

from ddpm_seg.data.annotations.load import load_annotations
from ddpm_seg.data.annotations.options import AnnotationOptions
from tests.data.annotations.fuzz_annotations import FORMS, MASK, SIZE, TASK, fuzz, prepare


@pytest.mark.parametrize("form", FORMS)
def test_without_a_mutation_every_form_is_read(tmp_path: Path, form: str) -> None:
    file = prepare(tmp_path, form)
    file.write_bytes(FORMS[form][1](None))
    uri = file.parent.parent if form == "png" else file.parent if form == "npy" else file
    found = load_annotations(str(uri), image_size=SIZE, task=TASK, options=AnnotationOptions(uncovered="wall"))
    for one in found:
        assert one.label[:15].tolist() == MASK[:15].tolist()


def test_mutated_files_are_read_or_refused(tmp_path: Path) -> None:
    outcomes = fuzz(tmp_path, count=216, seed=0)
    assert outcomes.total() == 216
    assert all(outcomes[form, "refused"] for form in FORMS)
