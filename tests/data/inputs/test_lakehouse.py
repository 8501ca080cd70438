"""Tables that deltalake and pyiceberg write themselves, as inputs: their current rows alone."""

from __future__ import annotations

import io
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import lance
import numpy as np
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from PIL import Image
from pyiceberg.catalog import load_catalog

from ddpm_seg.data.inputs import sources
from ddpm_seg.data.inputs.container import Choice
from ddpm_seg.data.inputs.lakehouse import files_of_table
from ddpm_seg.data.inputs.lance_container import store_options
from ddpm_seg.data.inputs.listing import list_images
from ddpm_seg.data.inputs.members import Place, look_into, read_places
from ddpm_seg.data.inputs.wanted import Wanted


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


def write_lance(folder: str) -> str:
    uri = f"{folder}/a.lance"
    lance.write_dataset(rows(range(5)), uri, max_rows_per_file=2)
    lance.write_dataset(rows(range(5, 9)), uri, mode="append")
    table = lance.dataset(uri)
    table.delete("number = 3 or number = 7")
    table.optimize.compact_files(materialize_deletions_threshold=0.0)
    lance.write_dataset(rows(range(9, 10)), uri, mode="append")
    return uri


WRITERS = pytest.mark.parametrize("write", [write_delta, write_iceberg, write_lance])
CURRENT = sorted(picture(number) for number in range(10) if number not in (3, 7))


@WRITERS
def test_only_the_current_rows_are_listed(tmp_path: Path, write: Callable[[str], str]) -> None:
    uri = write(str(tmp_path))
    there = [*tmp_path.rglob("*.parquet"), *tmp_path.rglob("data/*.lance")]
    assert len(there) > len(files_of_table(uri) or []), "earlier versions are still there"
    listing = list_images(uri)
    assert sorted(sources.read_image(file.uri)[0] for file in listing.files) == CURRENT
    whole = [file.uri for file in list_images(uri, Wanted(whole=True)).files]
    assert whole == files_of_table(uri), "containers like any other Parquet files"
    if write is write_lance:
        return  # not a table of URIs
    links = list_images(uri, Wanted(uri_column="link"))
    assert sorted(Path(file.uri).name for file in links.files) == [f"{n}.jpg" for n in range(10) if n not in (3, 7)]


@WRITERS
def test_a_table_may_lie_anywhere(tmp_path: Path, write: Callable[[str], str]) -> None:
    folder = tmp_path / "tables #1, été"
    folder.mkdir()
    found = [sources.read_image(file.uri)[0] for file in list_images(write(str(folder))).files]
    assert sorted(found) == CURRENT


def test_a_delta_table_may_be_parted_by_any_values(tmp_path: Path) -> None:
    parted = pa.table({"image": [picture(number) for number in range(3)], "part": ["a b", "c/d", "é%20#x"]})
    write_deltalake(f"{tmp_path}/delta dir #1", parted, partition_by=["part"])
    found = [sources.read_image(file.uri)[0] for file in list_images(f"{tmp_path}/delta dir #1").files]
    assert sorted(found) == sorted(map(picture, range(3)))


@pytest.mark.parametrize(
    ("write", "beside"), [(write_iceberg, "metadata/{:05x}-m0.avro"), (write_delta, "_delta_log/.{:020}.json.crc")]
)
def test_a_table_may_have_many_files_beside_its_metadata(
    tmp_path: Path, write: Callable[[str], str], beside: str
) -> None:
    uri = write(str(tmp_path))
    for path in Path(uri).glob("metadata/*.metadata.json"):
        path.rename(path.with_name(f"v{int(path.name[:5])}.metadata.json"))  # as Hadoop's catalog names them
    for number in range(1001):
        (Path(uri) / beside.format(number)).touch()
    assert sorted(sources.read_image(file.uri)[0] for file in list_images(uri).files) == CURRENT


@WRITERS
def test_a_folder_that_holds_a_table_is_refused(tmp_path: Path, write: Callable[[str], str]) -> None:
    write(str(tmp_path))
    with pytest.raises(ValueError, match="is a Delta, Iceberg or Lance table, whose folder also has files of earlier"):
        list(list_images(str(tmp_path)).files)


@WRITERS
def test_a_damaged_table_is_one_error(tmp_path: Path, write: Callable[[str], str]) -> None:
    uri = write(str(tmp_path))
    for path in [*Path(uri).rglob("*.json"), *Path(uri).rglob("*.avro"), *Path(uri).rglob("*.manifest")]:
        path.write_bytes(b"{")
    with pytest.raises(ValueError, match=r"is not a table of (Delta|Iceberg|Lance) that can be read"):
        list_images(uri)


@pytest.mark.parametrize(
    ("library", "write"), [("deltalake", write_delta), ("pyiceberg.table", write_iceberg), ("lance", write_lance)]
)
def test_a_missing_library_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: str, write: Callable[[str], str]
) -> None:
    uri = write(str(tmp_path))
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ValueError, match=r"needs pip install 'ddpm_seg\[(delta|iceberg|lance)\]'"):
        list_images(uri)


def test_a_delta_table_with_deleted_rows_in_its_files_is_refused(tmp_path: Path) -> None:
    uri = write_delta(str(tmp_path))
    shutil.rmtree(uri)
    write_deltalake(uri, rows(range(3)), configuration={"delta.enableDeletionVectors": "true"})
    with pytest.raises(ValueError, match="deletion vectors"):
        list_images(uri)


def test_a_lance_table_with_deleted_rows_in_its_files_is_refused(tmp_path: Path) -> None:
    uri = write_lance(str(tmp_path))
    lance.dataset(uri).delete("number = 1")
    with pytest.raises(ValueError, match="rows are marked as deleted; compact it first"):
        list_images(uri)


def test_a_chunk_of_a_lance_file(tmp_path: Path) -> None:
    uri = f"{tmp_path}/a.lance"
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    cells = [{"bytes": picture(number), "path": ""} if number != 4 else None for number in range(40)]
    lance.write_dataset(pa.table({"photo": pa.array(cells, kind), "mask": [b"m"] * 40}), uri)
    (file,) = files_of_table(uri) or []
    found = look_into(sources.info(file), Choice(image_column="photo"))
    assert [member.name for member in found.members] == [f"photo/{row}" for row in range(40)]
    places = [
        Place(container=found.version, name=one.name, start=one.start, size=one.size) for one in found.members[1:39]
    ]
    read = list(read_places(places, 1000))
    assert [one for one in read if isinstance(one, bytes)] == [picture(row) for row in range(1, 39) if row != 4]
    assert isinstance(read[3], ValueError)
    for name in ("photo/40", "x"):
        with pytest.raises(FileNotFoundError):
            sources.read_image(f"{file}#{name}")
    lance.dataset(uri).add_columns({"more": "1"})
    assert file in (files_of_table(uri) or []), "columns that are added later leave it as it is"
    Path(file).write_bytes(Path(file).read_bytes()[:-100])
    with pytest.raises(sources.ContainerError):
        sources.read_image(f"{file}#photo/1")


def test_tables_in_a_bucket(s3: Callable[[], str]) -> None:
    place, options = s3(), store_options()
    write_deltalake(f"{place}/delta", rows(range(3)), storage_options=options | {"aws_s3_allow_unsafe_rename": "true"})
    lance.write_dataset(rows(range(3)), f"{place}/a.lance", storage_options=options, max_rows_per_file=2)
    io_options = {"py-io-impl": "pyiceberg.io.fsspec.FsspecFileIO", "s3.endpoint": os.environ["AWS_ENDPOINT_URL"]}
    catalog = load_catalog("bucket", type="in-memory", warehouse=place, **io_options)
    catalog.create_namespace("a")
    catalog.create_table("a.b", schema=rows(range(1)).schema).append(rows(range(3)))
    for name in ("delta", "a.lance", "a/b"):
        found = [sources.read_image(file.uri)[0] for file in list_images(f"{place}/{name}").files]
        assert sorted(found) == sorted(map(picture, range(3))), name
