"""The door for images: files, and containers of a kind that only these tests have."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

import pytest

from ddpm_seg import storage
from ddpm_seg.data.inputs import sources
from ddpm_seg.data.inputs.container import Kind
from ddpm_seg.data.inputs.listing import list_images
from ddpm_seg.data.inputs.sources import ContainerError, images_in, normalize, read_image, split
from ddpm_seg.data.inputs.versions import with_versions
from tests.data.inputs.zip_kind import ZIP, ZipContainer, zip_of

IMAGES = {"1.png": b"one", "cats/2.JPG": b"two", "cats/odd #name, 100%.png": b"three" * 100}
FILES = {**IMAGES, "notes.txt": b"no image"}


@pytest.fixture(autouse=True)
def _zip_is_a_kind(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(sources, "KINDS", (ZIP,))
    sources._shared.cache_clear()
    yield
    sources._shared.cache_clear()


@pytest.fixture(params=["local", "s3"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path) if request.param == "local" else request.getfixturevalue("s3")()


def uris(input_uri: str) -> list[str]:
    return [file.uri for file in list_images(input_uri).files]


def test_what_is_listed_is_read_at_the_version_listed(root: str) -> None:
    uri = storage.join(root, "a.zip")
    storage.write_bytes(uri, zip_of(FILES))
    listed, version = list(images_in(uri) or ()), storage.info(uri)
    assert [file.uri for file in listed] == [f"{uri}#{name}" for name in IMAGES]
    for file, (name, data) in zip(listed, IMAGES.items(), strict=True):
        assert (file.etag, file.size_bytes, file.modified) == (version.etag, version.size_bytes, version.modified)
        assert sources.info(file.uri) == file
        read, found = read_image(file.uri)
        assert (read, found.size_bytes) == (data, len(data)), name
        assert (found.uri, found.etag, found.modified) == (file.uri, version.etag, version.modified)
        assert sources.exists(file.uri)
    assert not sources.exists(storage.join(root, "gone.zip#1.png"))


def test_a_container_that_was_replaced_is_read_anew(root: str) -> None:
    uri = storage.join(root, "a.zip")
    storage.write_bytes(uri, zip_of(FILES))
    before = read_image(f"{uri}#1.png")
    storage.write_bytes(uri, zip_of({**FILES, "0.png": b"zero", "1.png": b"another"}))
    after = read_image(f"{uri}#1.png")
    assert (before[0], after[0]) == (b"one", b"another")
    assert (before[1].etag, before[1].modified) != (after[1].etag, after[1].modified)


def test_an_object_that_is_replaced_while_it_is_read_is_an_error(s3: Callable[[], str]) -> None:
    uri = f"{s3()}/a.bin"
    storage.write_bytes(uri, bytes(100))
    file, version = storage.open_listed(uri)
    assert (file.read(10), version.size_bytes) == (bytes(10), 100)
    storage.write_bytes(uri, bytes(range(100)))
    with pytest.raises(storage.StorageError, match="replaced while it was read"):
        file.read(10)


def test_one_image_a_container_a_folder_and_a_pattern(root: str) -> None:
    storage.write_bytes(storage.join(root, "a.zip"), zip_of(FILES))
    storage.write_bytes(storage.join(root, "b.png"), b"png")
    storage.write_bytes(storage.join(root, ".c.zip"), zip_of(FILES))
    storage.write_bytes(storage.join(root, "d.zip"), zip_of({"notes.txt": b"none"}))
    storage.write_bytes(storage.join(root, "e.ZIP"), zip_of({"x.png": b"x"}))
    inside = [storage.join(root, f"a.zip#{name}") for name in IMAGES]
    assert uris(storage.join(root, "a.zip")) == inside
    assert uris(inside[2]) == inside[2:]
    listing = list_images(root)
    assert [file.uri for file in listing.files] == [
        *inside,
        storage.join(root, "b.png"),
        storage.join(root, "e.ZIP#x.png"),
    ]
    assert (listing.skipped, listing.hidden, list(listing.refused)) == (1, 1, [])
    assert uris(storage.join(root, "?.zip")) == inside
    with pytest.raises(ValueError, match=r"no images in .*d\.zip"):
        list_images(storage.join(root, "d.zip"))


def test_lists_name_containers_and_images_in_them(root: str) -> None:
    storage.write_bytes(storage.join(root, "in", "a.zip"), zip_of(FILES))
    storage.write_bytes(storage.join(root, "in", "b.zip"), zip_of({"./x//y.png": b"y", "z.png": b"z"}))
    entries = ["in/a.zip", "in/a.zip#1.png", "in/b.zip#./x//y.png", "in/gone.zip", "in/gone.zip#x.png"]
    storage.write_bytes(storage.join(root, "list.txt"), "\n".join(entries).encode())
    listing = list_images(storage.join(root, "list.txt"))
    files = list(with_versions(listing.files))
    assert [file.uri.removeprefix(storage.join(root, "in")) for file in files] == [
        *(f"/a.zip#{name}" for name in IMAGES),
        "/b.zip#./x//y.png",
        "/gone.zip#x.png",
    ]
    assert read_image(files[3].uri)[0] == b"y"
    version = storage.info(storage.join(root, "in", "b.zip"))
    assert (files[3].etag, files[3].size_bytes) == (version.etag, version.size_bytes)
    (refused,) = listing.refused
    assert (refused.uri, refused.error_type) == (storage.join(root, "in", "gone.zip"), "not_found")


def test_damage_is_one_refused_entry_after_the_images_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Torn(ZipContainer):
        def names(self) -> Iterator[str]:
            yield "1.png"
            raise EOFError("it ends in the middle")

    class Doubled(ZipContainer):
        def names(self) -> Iterator[str]:
            yield from ("1.png", "1.png", "2.png")

    kinds = [Kind(suffixes=(name,), open=kind, errors=ZIP.errors) for name, kind in ((".t", Torn), (".d", Doubled))]
    monkeypatch.setattr(sources, "KINDS", (ZIP, *kinds))
    for name in ("a.t", "b.d", "d.zip"):
        (tmp_path / name).write_bytes(zip_of(FILES))
    (tmp_path / "c.zip").write_bytes(b"not a zip file")
    listing = list_images(str(tmp_path))
    assert [Path(file.uri).name for file in listing.files][:2] == ["a.t#1.png", "b.d#1.png"]
    assert [(Path(entry.uri).name, entry.error_type) for entry in listing.refused] == [
        (name, "read_failed") for name in ("a.t", "b.d", "c.zip")
    ]
    reasons = [entry.reason for entry in listing.refused]
    assert "it is not a complete .t file: it ends in the middle" in reasons[0]
    assert "two images called '1.png'" in reasons[1]
    assert "it is not a complete .zip file: File is not a zip file" in reasons[2]
    with pytest.raises(ValueError, match=r"c\.zip: it is not a complete \.zip file"):
        list_images(str(tmp_path / "c.zip"))


def test_a_file_may_turn_out_to_be_no_container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def open_table(file: BinaryIO) -> ZipContainer | None:
        return ZipContainer(file) if file.read(2) == b"PK" else None

    monkeypatch.setattr(sources, "KINDS", (Kind(suffixes=(".txt",), open=open_table),))
    (tmp_path / "images.txt").write_bytes(zip_of(FILES))
    (tmp_path / "list.txt").write_text("images.txt\nplain.txt\nx.png\n")
    (tmp_path / "plain.txt").write_text("x.png\n")
    inside = [f"{tmp_path}/images.txt#{name}" for name in IMAGES]
    assert uris(str(tmp_path / "images.txt")) == inside
    assert uris(str(tmp_path / "list.txt")) == [*inside, f"{tmp_path}/plain.txt", f"{tmp_path}/x.png"]
    listing = list_images(str(tmp_path))
    assert ([file.uri for file in listing.files], listing.skipped) == (inside, 2)
    with pytest.raises(ContainerError, match="holds no images"):
        read_image(f"{tmp_path}/plain.txt#1.png")


def test_limits_hold_inside_and_out(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(zip_of({"large.png": bytes(1000)}))
    (tmp_path / "large.png").write_bytes(bytes(1000))
    for listed in (True, False):
        for name in ("a.zip#large.png", "large.png"):
            uri = str(tmp_path / name)
            assert read_image(uri, max_bytes=1000, listed=listed)[0] == bytes(1000)
            with pytest.raises(storage.FileTooLargeError, match="limit of 999 bytes") as caught:
                read_image(uri, max_bytes=999, listed=listed)
            assert sources.error_type(caught.value) == "too_many_bytes"


def test_what_is_not_there_and_what_may_not_be_read(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(zip_of(FILES))
    for name in ("a.zip#gone.png", "a.zip#", "gone.zip#1.png", "gone.png"):
        with pytest.raises(FileNotFoundError) as missing:
            read_image(str(tmp_path / name))
        assert sources.error_type(missing.value) == "not_found"
    link = tmp_path / "link.zip"
    link.symlink_to("/proc/self/environ")
    for name in ("link.zip#1.png", "link.zip"):
        with pytest.raises(storage.StorageError, match="a system file"):
            read_image(str(tmp_path / name))


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("/d/a.png", ("/d/a.png", "")),
        ("/d/a#b.png", ("/d/a#b.png", "")),
        ("/d/a#b.zip#c.png", ("/d/a#b.zip", "#c.png")),
        ("s3://b/a.ZIP#x/../y.zip#z.png", ("s3://b/a.ZIP", "#x/../y.zip#z.png")),
        ("https://host/a.zip?key=secret#x.png", ("https://host/a.zip?key=secret#x.png", "")),
        ("/d/a.zip", ("/d/a.zip", "")),
        ("/d/a.zip#", ("/d/a.zip", "#")),
    ],
)
def test_a_uri_is_cut_at_the_container_s_end(uri: str, expected: tuple[str, str]) -> None:
    assert split(uri) == expected
    assert normalize(uri) == uri
    assert sources.is_container(uri) == (uri == "/d/a.zip")


def test_without_kinds_a_name_is_a_file_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # as the product is today
    path = tmp_path / "a.zip#1.png"
    path.write_bytes(b"pixels")
    assert uris(str(tmp_path)) == uris(str(path)) == [str(path)]
    assert read_image(str(path))[0] == b"pixels"


def test_a_container_is_opened_once_for_all_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[BinaryIO] = []

    def open_counted(file: BinaryIO) -> ZipContainer:
        opened.append(file)
        return ZipContainer(file)

    monkeypatch.setattr(sources, "KINDS", (Kind(suffixes=(".zip",), open=open_counted),))
    images = {f"{number}.png": bytes([number]) * 1000 for number in range(200)}
    (tmp_path / "a.zip").write_bytes(zip_of(images))
    with ThreadPoolExecutor(8) as pool:
        read = pool.map(lambda name: read_image(f"{tmp_path}/a.zip#{name}")[0], images)
        assert list(read) == list(images.values())
    assert len(opened) <= 8  # threads that miss at the same moment
    read_image(f"{tmp_path}/a.zip#0.png")
    count = len(opened)
    for name in images:
        read_image(f"{tmp_path}/a.zip#{name}")
    assert len(opened) == count
