from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ddpm_seg import storage
from ddpm_seg.data.inputs.listing import list_images
from ddpm_seg.data.inputs.versions import with_versions
from tests.web_server import web_server


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


def test_names_in_braces_may_be_longer_together_than_a_files(root: str) -> None:
    names = [f"a_rather_long_name_{number:04d}.png" for number in range(20)]
    fill(root, *names)
    assert uris(f"{root}/{{{','.join(names)}}}") == [storage.join(root, name) for name in names]
    assert len(uris(f"{root}/[{''.join(names)}]*")) == 20
    for absent in (names[0] * 20, f"{{{names[0] * 20},x.png}}"):
        with pytest.raises(FileNotFoundError, match="nothing found at"):
            list_images(f"{root}/{absent}")


def test_a_container_on_a_web_server_is_refused_before_any_work(tmp_path: Path) -> None:
    listed = "s3://b/a.png\n{0}/a.TAR?sig=1\n{0}/b.png?of=a.tar\n"
    with web_server() as web:
        web.files = dict.fromkeys(("/a.tar", "/b.tar.gz", "/c.png"), (b"x", "1"))
        for name in ("a.tar", "b.tar.gz"):
            with pytest.raises(ValueError, match=r"\.tar.* on a web server .* copy it to a bucket"):
                list_images(f"{web.url}/{name}")
        assert uris(f"{web.url}/c.png") == [f"{web.url}/c.png"]
        (tmp_path / "list.txt").write_text(listed.format(web.url))
        listing = list_images(f"{tmp_path}/list.txt")
        assert [file.uri for file in listing.files] == [f"{web.url}/b.png?of=a.tar", "s3://b/a.png"]
        ((refused, reason),) = [(entry.uri, entry.reason) for entry in listing.refused]
        assert refused == f"{web.url}/a.TAR"
        assert "copy it to a bucket" in reason


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
    rows = [f"{i}\t{entry}" for i, entry in enumerate(entries)]
    storage.write_bytes(storage.join(root, "lists", "c.tsv"), "\n".join(["id\tpath", *rows, ""]).encode())
    for name, column in [("d", pa.array([*entries, None])), ("e", pa.array(entries).dictionary_encode())]:
        sink = pa.BufferOutputStream()
        pq.write_table(pa.table({"n": range(len(column)), "path": column}), sink)
        storage.write_bytes(storage.join(root, "lists", f"{name}.parquet"), sink.getvalue().to_pybytes())

    names = ["a.txt", "b.csv", "c.tsv", "d.parquet", "e.parquet"]
    listings = [list_images(storage.join(root, "lists", name)) for name in names]
    here = [storage.join(root, name) for name in ("lists/photos/1.png", "lists/noextension", "up.png")]
    elsewhere = ["https://host/x?id=1&sig=2", "s3://other/y.png"]
    refused = [] if storage.is_local(root) else ["/there/z.png"]
    elsewhere += [] if refused else ["/there/z.png"]
    assert all([entry.uri for entry in listing.refused] == refused for listing in listings)
    first, *others = [list(listing.files) for listing in listings]
    assert [file.uri for file in first] == sorted([*here, *elsewhere])
    sizes = {file.uri: file.size_bytes for file in first if file.size_bytes is not None}
    assert sizes == ({here[0]: 18, here[1]: 17} if storage.is_local(root) else {})
    assert all(files == first for files in others)


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("empty.txt", b"# nothing\n\n", "empty.txt lists no images"),
        ("empty.csv", b"", "it is empty"),
        ("header.csv", b"uri\n", "header.csv lists no images"),
        ("broken.parquet", b"PAR1 or not", "broken.parquet cannot be read as a list"),
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


@pytest.mark.parametrize("kind", [pa.string(), pa.binary()])
@pytest.mark.parametrize("other", [{}, {"sha256": pa.array([b"x", b"y"], pa.binary())}])
def test_a_parquet_list_may_hold_bytes(tmp_path: Path, kind: pa.DataType, other: dict[str, pa.Array]) -> None:
    names = ["a.png", "b.png"]
    pq.write_table(pa.table({"url": pa.array(names, kind), **other}), tmp_path / "list.parquet")
    assert uris(f"{tmp_path}/list.parquet") == [f"{tmp_path}/{name}" for name in names]


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


def rows_of(path: Path, data: bytes | str) -> tuple[list[str], list[str], str]:
    """Names of the files and of the refused entries of a list, and the column that was read."""
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    listing = list_images(str(path))
    here = str(path.parent) + "/"
    files = [file.uri.removeprefix(here) for file in listing.files]
    return files, [entry.uri for entry in listing.refused], listing.column


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_a_table_is_read_as_other_tools_write_it(tmp_path: Path, separator: str, end: str, encoding: str) -> None:
    rows = [["", "URL ", "note"], ["0", " a.png ", "x"], ["1", '"b b.png"', '"say ""b"""'], ["2", "ü.png"], ["3"], []]
    text = end.join(separator.join(row) for row in rows) + end
    files, refused, column = rows_of(tmp_path / "list.csv", text.encode(encoding))
    assert files == ["a.png", "b b.png", "ü.png"]
    assert (refused, column) == (["3"], "column 'URL'")


@pytest.mark.parametrize("name", ["list.csv", "list.tsv", "list.txt"])
def test_a_list_without_a_header_keeps_its_first_image(tmp_path: Path, name: str) -> None:
    files, _, column = rows_of(tmp_path / name, "first.png\nsecond.png\n")
    assert files == ["first.png", "second.png"]
    assert column in ("the only column, without a header", "one entry per line")


@pytest.mark.parametrize("first", ["id,file_name", "key,image_url", ",0", "0;1", "a.png\tb"])
def test_several_columns_of_no_known_name_are_refused(tmp_path: Path, first: str) -> None:
    separator = next(one for one in ",;\t" if one in first)
    (tmp_path / "list.csv").write_text(f"{first}\n0{separator}a.png\n1{separator}b.png\n")
    with pytest.raises(ValueError, match=r"list\.csv .* 2 columns \(.*\), and none is called uri, url or path"):
        list_images(str(tmp_path / "list.csv"))


def test_several_parquet_columns_of_no_known_name_are_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": ["a"], "file_name": ["a.png"]}), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=r"2 columns \('id', 'file_name'\), and none"):
        list_images(str(tmp_path / "a.parquet"))
    pq.write_table(pa.table({"names": ["a.png"], "__index_level_0__": [0]}), tmp_path / "b.parquet")
    assert uris(str(tmp_path / "b.parquet")) == [str(tmp_path / "a.png")]


def test_one_bad_line_is_a_row_and_not_the_end(tmp_path: Path) -> None:
    lines = [
        "path,n",
        '"never closed.png,1',
        "a.png,2",
        "too,many,cells.png",
        '"b\nc.png",4',
        "s3://k:secret@b/x.png,5",
    ]
    lines += ["file://host/x.png,6", "x" * 9000 + ",7", "d.png,8", '5" disk.png,9', ""]
    files, refused, _ = rows_of(tmp_path / "list.csv", "\n".join(lines))
    assert files == ['5" disk.png', "a.png", "b\nc.png", "d.png"]
    assert refused == ['"never closed.png,1', "file://host/x.png", "s3://b/x.png", "too,many,cells.png", "x" * 8192]


def test_names_are_those_of_the_store_however_unicode_composes_them(root: str, tmp_path: Path) -> None:
    composed, decomposed = "caf\u00e9.png", "cafe\u0301.png"
    fill(root, f"c/{composed}", f"d/{decomposed}")
    names = [
        storage.join(root, "c", decomposed),
        storage.join(root, "d", composed),
        storage.join(root, "d", decomposed),
    ]
    (tmp_path / "list.txt").write_text("\n".join(names))
    found = [file.uri for file in with_versions(list_images(str(tmp_path / "list.txt")).files)]
    assert found == [storage.join(root, "c", composed), storage.join(root, "d", decomposed)]


def test_an_encoding_that_is_none_is_said(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_bytes("uri\na.png\n".encode("utf-16-le"))
    with pytest.raises(ValueError, match="UTF-16 without a byte order mark"):
        list_images(str(tmp_path / "list.csv"))
    (tmp_path / "list.txt").write_bytes(b"m\xfcller.png\na.png\ns3://b/\xfc.png")
    listing = list_images(str(tmp_path / "list.txt"))
    assert [entry.error_type for entry in listing.refused] == ["not_found", "read_failed"]
    assert all("not UTF-8; save the list as UTF-8" in entry.reason for entry in listing.refused)
    assert len(list(listing.files)) == 1


def test_an_empty_object_in_the_place_of_a_folder_hides_nothing(s3: Callable[[], str]) -> None:
    root = s3()
    fill(root, "photos/0.png", "x.png/1.png")
    for marker in ("photos", "x.png"):
        storage.write_bytes(f"{root}/{marker}", b"")
    assert uris(f"{root}/photos") == uris(f"{root}/photos/") == [f"{root}/photos/0.png"]
    assert uris(f"{root}/x.png") == [f"{root}/x.png/1.png"]
    storage.write_bytes(f"{root}/y.png", b"")
    assert uris(f"{root}/y.png") == [f"{root}/y.png"]


def test_a_prefix_that_is_no_folder_and_a_pattern_of_folders(root: str) -> None:
    fill(root, "photos-1/a.png", "photos-2/b/c.png", "other/d.png", "photos-2/b/e.txt")
    both = [f"{root}/photos-1/a.png", f"{root}/photos-2/b/c.png"]
    assert uris(f"{root}/photos-*") == uris(f"{root}/phot*") == both
    if not storage.is_local(root):
        assert uris(f"{root}/photos-") == both
        assert uris(f"{root}/photos-2/b/c") == both[1:]
        with pytest.raises(FileNotFoundError):
            list_images(f"{root}/photos-/")


def test_hidden_and_system_copies_are_left_out_and_counted(root: str) -> None:
    hidden = [
        ".ipynb_checkpoints/a-checkpoint.png",
        "._a.png",
        "b/._b.jpg",
        "__MACOSX/b/x.png",
        "b/.c.png",
        "@eaDir/t.jpg",
    ]
    fill(root, "a.png", "b/b.png", "notes.md", *hidden)
    listing = list_images(root)
    assert [file.uri for file in listing.files] == [f"{root}/a.png", f"{root}/b/b.png"]
    assert (listing.skipped, listing.hidden) == (1, len(hidden))
    assert uris(f"{root}/.ipynb_checkpoints") == [f"{root}/.ipynb_checkpoints/a-checkpoint.png"]
    assert uris(f"{root}/.*/*.png") == [f"{root}/.ipynb_checkpoints/a-checkpoint.png"]
    assert uris(f"{root}/*.png") == [f"{root}/a.png"]
    with pytest.raises(ValueError, match="1 hidden images"):
        list_images(f"{root}/*_MACOSX")


def test_each_real_folder_comes_once(tmp_path: Path) -> None:
    folders = [tmp_path / "in" / str(number) for number in range(9)]
    for folder in folders:
        folder.mkdir(parents=True)
        (folder / "x.png").touch()
    for folder in folders:
        for other in folders:
            (folder / f"to-{other.name}").symlink_to(other)
        (folder / "up").symlink_to(tmp_path)
    outside = tmp_path / "outside"
    (outside / "deep").mkdir(parents=True)
    (outside / "deep" / "y.png").touch()
    (outside / "back").symlink_to(tmp_path / "in")
    for name in ("first", "second"):
        (tmp_path / "in" / name).symlink_to(outside)
    once = str(folders[0] / "up" / "outside" / "deep" / "y.png")  # under the first of its names
    assert uris(str(tmp_path / "in")) == [once, *(str(folder / "x.png") for folder in folders)]


def test_what_a_link_shows_of_a_hidden_folder_is_listed(tmp_path: Path) -> None:
    """As Kubernetes' volumes and git-sync do it."""
    (tmp_path / "..2026" / "data").mkdir(parents=True)
    (tmp_path / "..2026" / "data" / "x.png").touch()
    (tmp_path / "..data").symlink_to("..2026")
    (tmp_path / "data").symlink_to("..data/data")
    listing = list_images(str(tmp_path))
    assert [file.uri for file in listing.files] == [str(tmp_path / "data" / "x.png")]


def test_folders_may_be_nested_deeper_than_pythons_stack(tmp_path: Path) -> None:
    folders = [tmp_path]
    for _ in range(1500):
        folders.append(folders[-1] / "d")
        folders[-1].mkdir()
    image = folders[-1] / "x.png"
    image.touch()
    try:
        assert uris(str(tmp_path)) == [str(image)]
    finally:
        image.unlink()
        for folder in reversed(folders[1:]):  # pytest's own clearing up is recursive
            folder.rmdir()


def test_amazons_names_of_access_points_are_no_credentials(tmp_path: Path) -> None:
    arn = "s3://arn:aws:s3:eu-west-1:123456789012:accesspoint/ap/img@2x.png"
    (tmp_path / "list.txt").write_text(f"{arn}\ns3://bucket/b@2x.png\n")
    assert uris(str(tmp_path / "list.txt")) == [arn, "s3://bucket/b@2x.png"]
    assert storage.redact(arn) == arn
