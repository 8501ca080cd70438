from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ddpm_seg import storage
from ddpm_seg.data.listing import list_images


@pytest.fixture(params=["local", "s3"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path) if request.param == "local" else request.getfixturevalue("s3")()


def fill(root: str, *names: str) -> None:
    for name in names:
        storage.write_bytes(storage.join(root, name), name.encode())


def uris(input_uri: str) -> list[str]:
    return [file.uri for file in list_images(input_uri).files]


def test_a_folder_gives_its_images_and_counts_the_rest(root: str) -> None:
    fill(root, "b/2.JPG", "b/1.png", "a.jpeg", "a.txt", "b/.DS_Store", "png", "b/c/3.tiff", "a.png.part")
    listing = list_images(root + "/")
    files = list(listing.files)
    assert [file.uri for file in files] == [
        storage.join(root, name) for name in ("a.jpeg", "b/1.png", "b/2.JPG", "b/c/3.tiff")
    ]
    assert listing.skipped == 4
    assert [file.size_bytes for file in files] == [6, 7, 7, 10]
    assert all(file.modified for file in files)
    assert all(file.etag for file in files) != storage.is_local(root)


def test_one_file_and_a_pattern(root: str) -> None:
    fill(root, "a/1.png", "a/2.png", "b/1.png", "b/1.md")
    assert uris(storage.join(root, "a", "2.png")) == [storage.join(root, "a/2.png")]
    assert uris(storage.join(root, "*", "1.png")) == [storage.join(root, "a/1.png"), storage.join(root, "b/1.png")]
    listing = list_images(storage.join(root, "b", "*"))
    assert len(list(listing.files)) == listing.skipped == 1
    with pytest.raises(ValueError, match=r"b/1\.md is neither an image"):
        list_images(storage.join(root, "b", "1.md"))


def test_nothing_there_and_nothing_of_use_are_two_errors(root: str) -> None:
    for name in ("absent", "absent.png", "*/absent*", "absent.csv"):
        with pytest.raises(FileNotFoundError, match="nothing found at"):
            list_images(storage.join(root, name))
    fill(root, "x/notes.md", "x/readme.txt", "x/photo")
    with pytest.raises(ValueError, match="3 files found, none with an image's extension"):
        list_images(root)


def test_a_folder_named_like_an_image_is_a_folder(root: str) -> None:
    fill(root, "x.png/1.png", "x.png/2.md")
    assert uris(root) == uris(storage.join(root, "x.png")) == [storage.join(root, "x.png/1.png")]


def test_lists_in_three_formats_say_the_same(root: str) -> None:
    fill(root, "lists/photos/1.png", "lists/noextension")
    entries = ["photos/1.png", "https://host/x?id=1&sig=2", "s3://other/y.png", "/there/z.png", "../up.png"]
    entries += ["noextension", "photos/../photos/1.png"]  # the last is the first
    text = "\ufeff# what to label\r\n\n" + "\n".join(f"  {entry}\r" for entry in entries)
    storage.write_bytes(storage.join(root, "lists", "a.txt"), text.encode())
    rows = [f'{i},"{entry}",7' for i, entry in enumerate(entries)]
    storage.write_bytes(storage.join(root, "lists", "b.csv"), "\n".join(["id,URL,n", *rows]).encode())
    rows = [f"{entry},{i}" for i, entry in enumerate(entries)]
    storage.write_bytes(storage.join(root, "lists", "c.csv"), "\n".join(["picture,id", *rows, ""]).encode())
    for name, column in [("d", pa.array([*entries, None])), ("e", pa.array(entries).dictionary_encode())]:
        sink = pa.BufferOutputStream()
        pq.write_table(pa.table({"n": range(len(column)), "path": column}), sink)
        storage.write_bytes(storage.join(root, "lists", f"{name}.parquet"), sink.getvalue().to_pybytes())

    names = ["a.txt", "b.csv", "c.csv", "d.parquet", "e.parquet"]
    listings = [list_images(storage.join(root, "lists", name)) for name in names]
    here = [storage.join(root, name) for name in ("lists/photos/1.png", "lists/noextension", "up.png")]
    elsewhere = ["https://host/x?id=1&sig=2", "s3://other/y.png", "/there/z.png"]
    assert [file.uri for file in listings[0].files] == sorted([*here, *elsewhere])
    sizes = {file.uri: file.size_bytes for file in listings[0].files if file.size_bytes is not None}
    assert sizes == ({here[0]: 18, here[1]: 17} if storage.is_local(root) else {})
    assert all(listing == listings[0] for listing in listings)


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("empty.txt", b"# nothing\n\n", "empty.txt lists no image"),
        ("empty.csv", b"", "there is no header line"),
        ("header.csv", b"uri\n", "header.csv lists no image"),
        ("broken.parquet", b"PAR1 or not", "broken.parquet cannot be read as a list"),
        ("secret.txt", b"s3://KEY:secret@bucket/x.png", "s3://bucket/x.png: credentials do not belong"),
    ],
)
def test_lists_that_are_of_no_use(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ValueError, match=message):
        list_images(str(tmp_path / name))


def test_a_parquet_list_needs_strings(tmp_path: Path) -> None:
    pq.write_table(pa.table({"uri": [1, 2]}), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match="column 'uri' holds int64, not strings"):
        list_images(str(tmp_path / "a.parquet"))


def test_hostile_names_come_through_folders_and_lists(tmp_path: Path) -> None:
    names = [
        "two words.png",
        "100%20.png",
        "a#b?c.png",
        "see s3://b.png",
        "[1]*.png",
        b"\xff.png".decode(errors="surrogateescape"),
    ]
    folder = tmp_path / "of [images]*"
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    expected = sorted(str(folder / name) for name in names)
    assert uris(str(folder)) == expected
    (folder / "list.txt").write_bytes(b"\n".join(name.encode(errors="surrogateescape") for name in names))
    assert uris(str(folder / "list.txt")) == expected
    assert uris(expected[0]) == expected[:1]


def test_a_name_that_no_file_can_have_is_still_an_entry(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_bytes(b"a\0b.png\n" + b"x" * 300 + b".png")
    assert [file.size_bytes for file in list_images(str(tmp_path / "list.txt")).files] == [None, None]


def test_a_missing_bucket_is_named(s3: Callable[[], str]) -> None:
    s3()
    with pytest.raises(FileNotFoundError, match="s3://absent/x"):
        list_images("s3://absent/x")
