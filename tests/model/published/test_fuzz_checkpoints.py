from __future__ import annotations

from pathlib import Path

import pytest

from tests.model.published.fuzz_checkpoints import fuzz


@pytest.mark.parametrize("count", [30, pytest.param(300, marks=pytest.mark.slow)])
def test_changed_models_are_refused_or_right(tmp_path: Path, count: int) -> None:
    """`python -m tests.model.published.fuzz_checkpoints --count 600` is the long run."""
    faults: list[str] = []
    counts = fuzz(count, 3, tmp_path, faults.append)
    assert faults == []
    assert counts.total() == count
    assert {"same", "refused"} <= {outcome for _, _, outcome in counts}
