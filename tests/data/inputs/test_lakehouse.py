"""Tables that deltalake and pyiceberg write themselves, as inputs: their current rows alone."""

from __future__ import annotations

import io
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from PIL import Image
from pyiceberg.catalog import load_catalog

from ddpm_seg.data.inputs import sources
from ddpm_seg.data.inputs.lakehouse import files_of_table
from ddpm_seg.data.inputs.listing import Wanted, list_images


def picture(number: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((4, 4, 3), number, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def rows(numbers: range) -> pa.Table:
    about = {"number": list(numbers), "link": [f"photos/{number}.jpg" for number in numbers]}
    return pa.table({"image": pa.array([picture(number) for number in numbers], pa.binary()), **about})


def write_delta(folder: str) -> str:
    uri = f"{folder}/delta"
    write_deltalake(uri, rows(range(5)))
    write_deltalake(uri, rows(range(5, 9)), mode="append")
    DeltaTable(uri).delete("number = 3 or number = 7")
    write_deltalake(uri, rows(range(9, 10)), mode="append")
    return uri


def write_iceberg(folder: str) -> str:
    catalog = load_catalog("local", type="in-memory", warehouse=folder)
    catalog.create_namespace("a")
    table = catalog.create_table("a.b", schema=rows(range(1)).schema)
    for numbers in (range(5), range(5, 9)):
        table.append(rows(numbers))
    table.delete("number = 3 or number = 7")
    table.append(rows(range(9, 10)))
    return f"{folder}/a/b"


WRITERS = pytest.mark.parametrize("write", [write_delta, write_iceberg])
CURRENT = sorted(picture(number) for number in range(10) if number not in (3, 7))


@WRITERS
def test_only_the_current_rows_are_listed(tmp_path: Path, write: Callable[[str], str]) -> None:
    uri = write(str(tmp_path))
    assert len(list(tmp_path.rglob("*.parquet"))) > len(files_of_table(uri) or []), "earlier versions are still there"
    listing = list_images(uri)
    assert sorted(sources.read_image(file.uri)[0] for file in listing.files) == CURRENT
    whole = [file.uri for file in list_images(uri, Wanted(whole=True)).files]
    assert whole == files_of_table(uri), "containers like any other Parquet files"
    links = list_images(uri, Wanted(uri_column="link"))
    assert sorted(Path(file.uri).name for file in links.files) == [f"{n}.jpg" for n in range(10) if n not in (3, 7)]


@WRITERS
def test_a_folder_that_holds_a_table_is_refused(tmp_path: Path, write: Callable[[str], str]) -> None:
    write(str(tmp_path))
    with pytest.raises(ValueError, match="is a Delta or Iceberg table, whose folder also has files of earlier"):
        list(list_images(str(tmp_path)).files)


@WRITERS
def test_a_damaged_table_is_one_error(tmp_path: Path, write: Callable[[str], str]) -> None:
    uri = write(str(tmp_path))
    for path in [*Path(uri).rglob("*.json"), *Path(uri).rglob("*.avro")]:
        path.write_bytes(b"{")
    with pytest.raises(ValueError, match=r"is not a table of (Delta|Iceberg) that can be read"):
        list_images(uri)


@pytest.mark.parametrize(("library", "write"), [("deltalake", write_delta), ("pyiceberg.table", write_iceberg)])
def test_a_missing_library_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: str, write: Callable[[str], str]
) -> None:
    uri = write(str(tmp_path))
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ValueError, match=r"needs pip install 'ddpm_seg\[(delta|iceberg)\]'"):
        list_images(uri)


def test_a_delta_table_with_deleted_rows_in_its_files_is_refused(tmp_path: Path) -> None:
    uri = write_delta(str(tmp_path))
    shutil.rmtree(uri)
    write_deltalake(uri, rows(range(3)), configuration={"delta.enableDeletionVectors": "true"})
    with pytest.raises(ValueError, match="deletion vectors"):
        list_images(uri)
