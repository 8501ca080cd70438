"""Exports of the surest masks leave out images unlike the training images, of which a model may be sure as well."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ddpm_seg import storage
from ddpm_seg.data.table_pictures import encode_png
from jobs.export import main
from tests.runs.nightly_runs import labelled, night

# Uncertainty and domain_distance.
IMAGES = {"known.png": (0.1, 1.0), "strange.png": (0.05, 1.6), "doubtful.png": (0.5, 0.9), "older.png": (0.1, None)}


def write_labels(folder: Path, *names: str) -> str:
    rows = {}
    for name in names:
        uncertainty, distance = IMAGES[name]
        storage.write_bytes(f"{folder}/{name}", encode_png(np.zeros((4, 4, 3), np.uint8)))
        row = labelled(1, uncertainty, background=1.0) | {"width": 4, "height": 4, "domain_distance": distance}
        rows[name] = row | {"mask": {"bytes": encode_png(np.zeros((4, 4), np.uint8)), "path": None}}
    night(folder / "out", 1, rows, prefix=str(folder))
    return f"{folder}/out"


@pytest.mark.parametrize(
    ("options", "exported"),
    [
        (["--max-uncertainty", "0.2"], {"known", "older"}),
        (["--max-uncertainty", "0.2", "--max-domain-distance", "2"], {"known", "older", "strange"}),
        (["--max-domain-distance", "1.4"], {"known", "older", "doubtful"}),
        (["--most-uncertain", "4"], {"known", "older", "doubtful", "strange"}),
    ],
)
def test_which_images_are_exported(tmp_path: Path, options: list[str], exported: set[str]) -> None:
    labels = write_labels(tmp_path, *IMAGES)
    assert main(["--labels", labels, "--to", "png", "--output", f"{tmp_path}/png", *options]) == 0
    names = [path.name for path in (tmp_path / "png" / "masks").iterdir()]
    assert {
        image for image in ("known", "strange", "doubtful", "older") if any(image in name for name in names)
    } == exported
    assert len(names) == len(exported)


def test_where_only_strange_images_are_sure_nothing_is_exported_and_it_says_why(tmp_path: Path, capsys) -> None:
    labels = write_labels(tmp_path, "strange.png", "doubtful.png")
    assert main(["--labels", labels, "--to", "png", "--output", f"{tmp_path}/png", "--max-uncertainty", "0.2"]) == 2
    said = capsys.readouterr().err
    assert "2 do not match the filters, 1 of them only because they are unlike the training images" in said
    assert not (tmp_path / "png").exists()
