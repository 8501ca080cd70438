from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ddpm_seg import storage
from ddpm_seg.data.table_pictures import PictureError, encode_png, read_image, read_mask, row_mask
from ddpm_seg.evaluation.pages.annotate_next import write_active
from ddpm_seg.evaluation.tables.changes import ChangesConfig, find_changes
from ddpm_seg.evaluation.tables.export import ExportConfig, export
from tests.odd_images import encode, picture, png_header
from tests.runs.nightly_runs import labelled, night

MASK = np.random.default_rng(0).integers(0, 5, (10, 10), np.uint8)
WRONG: dict[str, tuple[Any, str]] = {
    "null": (None, "there is none"),
    "empty": ({"bytes": b"", "path": None}, "there is none"),
    "EPS": ({"bytes": encode(Image.fromarray(picture()), "EPS"), "path": None}, "is not a PNG"),
    "JPEG": ({"bytes": encode(Image.fromarray(MASK), "JPEG"), "path": None}, "is not a PNG"),
    "RGB": ({"bytes": encode_png(picture(10, 10)), "path": None}, "8-bit RGB, expected 8-bit grey"),
    "indexed": ({"bytes": encode(Image.fromarray(MASK).convert("P"), "PNG"), "path": None}, "8-bit indexed"),
    "16 bits": ({"bytes": encode(Image.fromarray(MASK.astype(np.uint16)), "PNG"), "path": None}, "16-bit grey"),
    "another size": ({"bytes": encode_png(MASK[:7]), "path": None}, "is 10 x 7 pixels, its row says 10 x 10"),
    "a bomb": ({"bytes": png_header(20_000, 20_000), "path": None}, "is 20000 x 20000 pixels"),
    "half": ({"bytes": encode_png(MASK)[:60], "path": None}, "a PNG that cannot be read"),
    "a header alone": ({"bytes": encode_png(MASK)[:20], "path": None}, "is not a PNG"),
}


def test_right_pictures() -> None:
    assert np.array_equal(read_mask(encode_png(MASK), 10, 10), MASK)
    assert np.array_equal(read_image(encode_png(picture()), 56, 40), picture())


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_cell_names_row_and_file(name: str) -> None:
    cell, said = WRONG[name]
    row = {"uri": "in/a.png", "width": 10, "height": 10, "mask": cell}
    with pytest.raises(PictureError, match=r"mask of in/a\.png in out/shard\.parquet: ") as caught:
        row_mask(row, file="out/shard.parquet")
    assert said in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("size", [(None, 10), (10, None), (-1, 10), (0, 0), ("10", 10), (2**40, 2**40)])
def test_a_row_without_a_right_size(size: tuple[Any, Any]) -> None:
    with pytest.raises(PictureError, match="its row"):
        row_mask({"uri": "a", "width": size[0], "height": size[1], "mask": {"bytes": encode_png(MASK)}})


def test_a_row_without_a_size_may_hold_a_picture_of_moderate_size() -> None:
    row = {"uri": "a", "width": None, "height": None, "mask": {"bytes": encode_png(MASK)}}
    assert np.array_equal(row_mask(row), MASK)
    with pytest.raises(PictureError, match="20000 x 20000"):
        row_mask({**row, "mask": {"bytes": png_header(20_000, 20_000)}})


def outputs(tmp_path: Path, cell: Any) -> str:
    """Two models' labels of three images; one of the second's masks is `cell`."""
    out = str(tmp_path / "out")
    for number in range(3):
        storage.write_bytes(f"{tmp_path}/in/{number}.png", encode_png(picture(10, 10)))
    rows = {f"{n}.png": {**labelled(n), "mask": {"bytes": encode_png(MASK), "path": None}} for n in range(3)}
    night(out, 1, rows, config_hash="a", prefix=f"{tmp_path}/in")
    night(out, 2, {**rows, "1.png": {**rows["1.png"], "mask": cell}}, config_hash="b", prefix=f"{tmp_path}/in")
    return out


CONSUMERS = {
    "export": lambda out: export(ExportConfig(labels=out, to="coco", output=f"{out}-exported", config_hash="b")),
    "changes": lambda out: find_changes(ChangesConfig(labels=out)),
    "active": lambda out: write_active(out, 3, config_hash="b"),
}


@pytest.mark.parametrize("name", ["null", "EPS", "RGB", "another size", "a bomb"])
@pytest.mark.parametrize("consumer", CONSUMERS)
def test_every_reader_of_masks_stops_with_that_line(
    consumer: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[tuple[str, ...] | None] = []
    really_open = Image.open

    def spying(file: io.BytesIO, mode: str = "r", formats: tuple[str, ...] | None = None) -> Image.Image:
        opened.append(formats)
        return really_open(file, formats=formats)  # type: ignore[arg-type]

    monkeypatch.setattr(Image, "open", spying)
    cell, said = WRONG[name]
    out = outputs(tmp_path, cell)
    with pytest.raises(PictureError) as caught:
        CONSUMERS[consumer](out)
    assert said in str(caught.value)
    assert "1.png" in str(caught.value)
    assert set(opened) <= {("PNG",)}, "nothing but PNG is ever opened"


# --- encode_png


@pytest.mark.parametrize("shape", [(5, 9), (5, 9, 3), (1, 1)])
def test_png_round_trip(shape):
    array = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    data = encode_png(array)
    with Image.open(io.BytesIO(data)) as image:
        assert image.mode == ("L" if len(shape) == 2 else "RGB")
        np.testing.assert_array_equal(np.asarray(image), array)
    assert data == encode_png(array.copy())


@pytest.mark.parametrize("array", [np.zeros((4, 4), np.int64), np.zeros((4, 4, 4), np.uint8), np.zeros(4, np.uint8)])
def test_png_of_other_arrays_is_refused(array):
    with pytest.raises(ValueError, match="uint8"):
        encode_png(array)
