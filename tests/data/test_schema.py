from __future__ import annotations

import io
import json

import pyarrow as pa
import pytest
from PIL import Image

from ddpm_seg.data.schema import IMAGE, class_stats_table, labels_schema, task_of
from ddpm_seg.tasks import TASKS


def labels(*images: list[str]) -> pa.Table:
    """A `labels` table; each image is its class names, none for an image that could not be read."""
    rows = [
        {
            "image_id": f"id{i}",
            "uri": f"s3://b/{i}.png",
            "run_id": "run-000001",
            "config_hash": "c",
            "classes": [
                {"class_id": k, "class_name": name, "pixels": k + 1, "bbox": [0, 0, 1, 1]}
                for k, name in enumerate(names)
            ]
            or None,
        }
        for i, names in enumerate(images)
    ]
    return pa.Table.from_pylist(rows, schema=labels_schema(TASKS["avatars_10"]))


def test_class_stats_has_a_row_for_each_class_of_each_image() -> None:
    table = class_stats_table(labels(["skin", "hair"], [], ["eyes"], []))
    found = [(row["image_id"], row["uri"], row["class_name"], row["pixels"]) for row in table.to_pylist()]
    assert found == [
        ("id0", "s3://b/0.png", "skin", 1),
        ("id0", "s3://b/0.png", "hair", 2),
        ("id2", "s3://b/2.png", "eyes", 1),
    ]


@pytest.mark.parametrize("images", [[], [[], []]])
def test_class_stats_of_no_classes_keeps_its_columns(images: list[list[str]]) -> None:
    empty = class_stats_table(labels(*images))
    assert empty.num_rows == 0
    assert empty.schema.equals(class_stats_table(labels(["skin"])).schema, check_metadata=True)


def test_class_stats_of_a_sliced_or_chunked_table() -> None:
    whole = labels(["skin", "hair"], [], ["eyes"], ["nose", "mouth"])
    parts = pa.concat_tables([whole.slice(0, 1), whole.slice(1, 2), whole.slice(3)])
    assert class_stats_table(parts).to_pylist() == class_stats_table(whole).to_pylist()
    assert class_stats_table(whole.slice(2)).to_pylist() == class_stats_table(whole).to_pylist()[2:]


@pytest.mark.parametrize("task", TASKS.values(), ids=str)
def test_the_task_comes_back_from_the_metadata(task) -> None:  # type: ignore[no-untyped-def]
    assert task_of(labels_schema(task)) == task
    metadata = json.loads(labels_schema(task).metadata[b"ddpm_seg"])
    assert metadata["class_names"] == list(task.class_names)
    assert metadata["palette"] == [list(color) for color in task.palette]


def test_a_foreign_table_is_refused() -> None:
    with pytest.raises(ValueError, match="not written by this project"):
        task_of(pa.schema([("a", pa.int64())]))


def test_huggingface_features_decode_the_mask() -> None:
    from datasets import Features
    from datasets import Image as ImageFeature

    features = Features.from_arrow_schema(labels_schema(TASKS["avatars_10"]))
    assert isinstance(features["mask"], ImageFeature)
    assert features["mask"].pa_type == IMAGE
    buffer = io.BytesIO()
    Image.new("L", (3, 2), 7).save(buffer, "PNG")
    mask = features["mask"].decode_example({"bytes": buffer.getvalue(), "path": None})
    assert (mask.mode, mask.size, mask.getpixel((0, 0))) == ("L", (3, 2), 7)
