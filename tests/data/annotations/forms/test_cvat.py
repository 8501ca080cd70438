"""Reading CVAT's XML: our own export, and what people draw in CVAT."""

from __future__ import annotations

from pathlib import Path
from xml.sax.saxutils import quoteattr

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as codec

from ddpm_seg.data.annotations.errors import AnnotationError
from ddpm_seg.data.annotations.load import load_annotations
from ddpm_seg.data.annotations.options import AnnotationOptions
from ddpm_seg.data.exports.cvat import write_cvat
from tests.data.exports.drawn import TASK, pictures

SIZE = 8


def write(folder: Path, shapes: str, *, about: str = 'id="0" name="a.png" width="8" height="8"') -> str:
    (folder / "images").mkdir(exist_ok=True)
    Image.new("RGB", (SIZE, SIZE)).save(folder / "images" / "a.png")
    text = f"<annotations><version>1.1</version><meta/><image {about}>{shapes}</image></annotations>"
    (folder / "annotations.xml").write_text(text)
    return str(folder / "annotations.xml")


def mask(rle: str, *, label: str = "sky", box: tuple[int, int, int, int] = (1, 2, 3, 2), z_order: int = 0) -> str:
    left, top, width, height = box
    place = f'left="{left}" top="{top}" width="{width}" height="{height}" z_order="{z_order}"'
    return f'<mask label={quoteattr(label)} source="manual" occluded="0" rle="{rle}" {place}></mask>'


def read(uri: str, **options: str) -> np.ndarray:
    (annotation,) = load_annotations(uri, image_size=SIZE, task=TASK, options=AnnotationOptions(**options))
    return annotation.label


def test_our_own_export_comes_back(tmp_path: Path) -> None:
    made = list(pictures())
    write_cvat(made, TASK, str(tmp_path))
    found = load_annotations(str(tmp_path / "annotations.xml"), image_size=6, task=TASK)
    by_name = {Path(one.uri).name: one for one in found}
    assert len(by_name) == len([one for one in made if (one.mask != 255).any()])
    for one in made:
        if one.file_name in by_name and one.mask.shape == (6, 6):
            np.testing.assert_array_equal(by_name[one.file_name].label, one.mask)


def test_masks_are_rows_of_their_box(tmp_path: Path) -> None:
    expected = np.full((SIZE, SIZE), 255)
    expected[2, 2:4], expected[3, 1] = 0, 0
    for rle in ("1, 3, 2", "1,3", "1, 3, 2, 0"):  # CVAT's own, and what other writers leave out or add
        np.testing.assert_array_equal(read(write(tmp_path, mask(rle))), expected)


def test_the_higher_z_order_is_in_front_then_the_later(tmp_path: Path) -> None:
    names = TASK.class_names
    low, high = mask("0, 6", label=names[0], z_order=3), mask("0, 6", label=names[1])
    assert read(write(tmp_path, low + high))[2, 1] == 0
    assert read(write(tmp_path, mask("0, 6", label=names[0]) + high))[2, 1] == 1


def test_polygons_are_drawn_and_boxes_have_no_class(tmp_path: Path) -> None:
    polygon = '<polygon label="sky" points="1.5,1.0;6.0,1.5;6.0,7.0" z_order="0"></polygon>'
    box = '<box label="sky" xtl="0.0" ytl="6.0" xbr="2.0" ybr="8.0"></box>'
    odd = '<polyline label="sky" points="0,0;1,1"/><tag label="sky"/>'
    expected = np.where(codec.decode(codec.frPyObjects([[1.5, 1, 6, 1.5, 6, 7]], SIZE, SIZE))[:, :, 0], 0, 1)
    expected[6:, :2] = 255
    found = read(write(tmp_path, polygon + box + odd), uncovered=TASK.class_names[1])
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ("", "holds no annotated images"),
        (mask("0, 6", label="fog"), "label 'fog', which weather does not have"),
        (mask("0, 600"), "600 pixels in a box of 3 x 2"),
        (mask("0, -6, 12"), "runs of"),
        (mask("zero"), "rle is not a list of counts"),
        (mask("0, 6", box=(7, 0, 3, 2)), r"3 x 2 at \(7, 0\), outside of its image of 8 x 8"),
        (mask("0, 6", box=(-1, 0, 3, 2)), "outside of its image"),
        ('<mask label="sky" rle="0, 6"/>', "mask whose left is None, expected an integer"),
        ('<polygon label="sky" points="1,1;a,2;3,3"/>', "coordinate 'a', expected a number"),
        ('<polygon label="sky" points="1,1;1e9,2;3,3"/>', "far outside"),
        ('<polygon label="sky" points="1,1;nan,2;3,3"/>', "not a list of finite numbers"),
    ],
)
def test_a_broken_shape_is_one_line(tmp_path: Path, shapes: str, message: str) -> None:
    with pytest.raises(AnnotationError, match=message) as raised:
        read(write(tmp_path, shapes))
    assert "\n" not in str(raised.value)


def test_a_polygon_of_two_points_is_left_out_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    read(write(tmp_path, mask("0, 6") + '<polygon label="sky" points="1,1;3,3"/>'))
    assert "1 polygons of fewer than three points are left out" in caplog.text
    caplog.clear()
    read(write(tmp_path, '<polygon label="sky" points="1,1;3,1;3,3"/>'))
    assert "left out" not in caplog.text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<annotations>", "is not XML"),
        ("", "is not XML"),
        ("<kml/>", "not CVAT's XML for images"),
        ("<annotations><track/></annotations>", "export as 'CVAT for images 1.1'"),
        ('<!DOCTYPE x [<!ENTITY a "b">]><annotations/>', "has a document type or entities"),
        ("<annotations><image><mask/></image></annotations>", "has an image without a name"),
    ],
)
def test_another_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "x.xml").write_text(text)
    with pytest.raises(AnnotationError, match=message):
        read(str(tmp_path / "x.xml"))


def test_sizes_are_compared_before_anything_is_drawn(tmp_path: Path) -> None:
    about = 'name="a.png" width="100000" height="100000"'
    with pytest.raises(AnnotationError, match="is 100000 x 100000"):
        read(write(tmp_path, mask("0, 6"), about=about))
