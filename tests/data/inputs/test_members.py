"""Looking into containers, and reading many images of one at once, of the planned version alone."""

from __future__ import annotations

import gzip
import io
import random
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ddpm_seg import storage
from ddpm_seg.data.inputs import sources, tar, tar_container
from ddpm_seg.data.inputs.braces import expand
from ddpm_seg.data.inputs.container import UNCHOSEN, Choice
from ddpm_seg.data.inputs.listing import list_images
from ddpm_seg.data.inputs.members import ContainerChangedError, Place, look_into, read_places
from ddpm_seg.data.inputs.wanted import Wanted
from ddpm_seg.storage import remote_file, stores
from tests.faulty_s3 import FaultyS3, faulty_s3
from tests.seaweedfs import S3Server

IMAGES = {f"{number:03d}.jpg": bytes([number]) * (3000 + number) for number in range(20)}


@pytest.fixture(params=["local", "s3"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path) if request.param == "local" else request.getfixturevalue("s3")()


@pytest.fixture
def proxy(s3_endpoint: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyS3]:
    """Stands before the S3 server and notes all requests."""
    with faulty_s3(s3_endpoint.endpoint) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        stores._open_filesystem.cache_clear()
        yield proxy
    stores._open_filesystem.cache_clear()


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The ranges of bytes that were asked of a remote store."""
    ranges: list[tuple[int, int]] = []
    read = remote_file.remote.read_range

    def noted(uri: str, start: int, end: int, *rest: object) -> bytes:
        ranges.append((start, end))
        return read(uri, start, end, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(remote_file.remote, "read_range", noted)
    return ranges


def tar_of(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def with_captions() -> dict[str, bytes]:
    return {one: data for name, image in IMAGES.items() for one, data in ((name, image), (f"{name[:3]}.txt", b"text"))}


def places_in(uri: str, choice: Choice = UNCHOSEN) -> list[Place]:
    found = look_into(sources.info(uri), choice)
    assert not found.fault
    return [
        Place(container=found.version, name=member.name, start=member.start, size=member.size)
        for member in found.members
    ]


def test_a_chunk_is_one_ranged_request_of_that_version(root: str, requests: list[tuple[int, int]]) -> None:
    uri = storage.join(root, "a.tar")
    storage.write_bytes(uri, tar_of(with_captions()))
    places = places_in(uri)
    requests.clear()
    chunk = places[8:12]
    assert list(read_places(chunk, 10_000)) == [IMAGES[place.name] for place in chunk]
    if not storage.is_local(root):
        first, last = chunk[0], chunk[-1]
        (read,) = requests
        assert read == (first.start - 512, last.start + last.size)
    storage.write_bytes(uri, tar_of(with_captions() | {"new.jpg": b"new"}))
    with pytest.raises(ContainerChangedError):
        list(read_places(chunk, 10_000))


def test_a_resume_in_a_tar_is_one_conditional_get(s3: Callable[[], str], proxy: FaultyS3) -> None:
    uri = f"{s3()}/a.tar"
    storage.write_bytes(uri, tar_of(with_captions()))
    places = places_in(uri)
    proxy.fail("500", times=0)  # forgets what it has seen
    chunk = places[8:12]
    assert list(read_places(chunk, 10_000)) == [IMAGES[place.name] for place in chunk]
    (request,), (headers,) = proxy.seen, proxy.headers
    assert request.startswith(f"GET {uri.removeprefix('s3:/')}")
    first, last = chunk[0], chunk[-1]
    assert headers["Range"] == f"bytes={first.start - 512}-{last.start + last.size - 1}", "with the first one's header"
    assert headers["If-Match"].strip('"') == first.container.etag
    storage.write_bytes(uri, tar_of(with_captions() | {"new.jpg": b"new"}))
    with pytest.raises(ContainerChangedError):
        list(read_places(chunk, 10_000))


def test_what_looks_like_a_header_does_not_make_a_gzipped_tar_plain(tmp_path: Path) -> None:
    noise = {f"{number}.jpg": random.Random(number).randbytes(3000) for number in range(20)}
    path = tmp_path / "a.tar"  # in spite of its name
    path.write_bytes(gzip.compress(tar_of(noise), 0))
    places = places_in(str(path))
    for chunk in (places, places[7:9], places[-1:]):
        assert list(read_places(chunk, 10_000)) == [noise[place.name] for place in chunk]


def test_a_change_during_the_reading_does_not_mix_versions(root: str) -> None:
    uri = storage.join(root, "a.tar")
    storage.write_bytes(uri, tar_of(with_captions()))
    places = places_in(uri)
    reading = read_places(places, 10_000)
    next(reading)
    storage.write_bytes(uri, tar_of(with_captions() | {"new.jpg": b"new"}))
    if storage.is_local(root):
        with pytest.raises(ContainerChangedError, match="replaced while it was read"):
            list(reading)
    else:  # the one request was answered by the version that was planned
        assert list(reading) == [IMAGES[place.name] for place in places[1:]]
        with pytest.raises(ContainerChangedError, match="replaced while it was read"):
            list(read_places(places, 10_000))


def test_images_that_lie_far_apart_are_several_requests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tar_container, "WIDEST_GAP", 1000)
    monkeypatch.setattr(tar_container, "MOST_AT_ONCE", 9000)
    files = {"0.jpg": b"0", "film.mp4": bytes(5000), **IMAGES}
    path = tmp_path / "a.tar"
    path.write_bytes(tar_of(files))
    places = places_in(str(path))
    spans = list(tar_container._spans(place.member for place in places))
    assert len(spans) == 1 + len(IMAGES) // 2
    assert list(read_places(places, 10_000)) == [files[place.name] for place in places]
    some = [places[0], places[3], places[17]]
    assert list(read_places(some, 10_000)) == [files[place.name] for place in some]
    assert [type(one) for one in read_places(places[:2], 2000)] == [bytes, storage.FileTooLargeError]


def test_a_gzipped_tar_is_unpacked_up_to_the_chunk(tmp_path: Path) -> None:
    path = tmp_path / "a.tgz"
    path.write_bytes(gzip.compress(tar_of(IMAGES)))
    places = places_in(str(path))
    for chunk in (places, places[7:9], places[-1:]):
        assert list(read_places(chunk, 10_000)) == [IMAGES[place.name] for place in chunk]
    assert sources.read_image(f"{path}#003.jpg")[0] == IMAGES["003.jpg"]


def test_a_gzip_bomb_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tar, "MOST_UNPACKED", 1 << 20)
    path = tmp_path / "bomb.tar.gz"
    path.write_bytes(gzip.compress(tar_of({"a.jpg": b"a", "zeros.bin": bytes(20 << 20), "b.jpg": b"b"})))
    found = look_into(sources.info(str(path)), UNCHOSEN)
    assert [member.name for member in found.members] == ["a.jpg"]
    assert "more than 200 times its size" in found.fault


@pytest.mark.parametrize("groups", [1, 3, 100])
def test_rows_of_a_table_are_read_across_row_groups(tmp_path: Path, groups: int) -> None:
    images = [*IMAGES.values()]
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"jpg": pa.array(images, pa.large_binary()), "n": range(20)}), path, row_group_size=groups)
    places = places_in(str(path))
    assert [place.name for place in places] == [str(row) for row in range(20)]
    for chunk in (places, places[2:9], places[-1:]):
        assert list(read_places(chunk, 10_000)) == [images[int(place.name)] for place in chunk]
    assert sources.read_image(f"{path}#19")[0] == images[19]
    for name in ("20", "-1", "x", "", "1.5", "²"):
        with pytest.raises(FileNotFoundError):
            sources.read_image(f"{path}#{name}")


def test_which_tables_hold_images(tmp_path: Path) -> None:
    pictures = pa.array([b"x"], pa.binary())
    tables = {
        "usual": {"image": pictures, "mask": pictures, "text": ["a"]},
        "only": {"photo": pictures, "text": ["a"]},
        "two": {"left": pictures, "right": pictures},
        "masks": {"mask": pictures, "confidence_map": pictures, "uri": ["a.png"]},
        "hashes": {"url": ["a.png"], "sha256": pictures},
        "hashes of objects": {"Bucket": ["b"], "Key": ["a.png"], "sha256": pictures},
        "names in bytes": {"uri": pictures, "n": [1]},
        "names alone": {"Path": pictures},
        "usual beside names": {"url": ["a.png"], "sha256": pictures, "jpg": pictures},
        "struct beside names": {"path": ["a"], "sha256": pictures, "cell": [{"bytes": b"x", "path": "a"}]},
        "only beside a key": {"key": ["000"], "data": pictures},
    }
    for name, columns in tables.items():
        pq.write_table(pa.table(columns), tmp_path / f"{name}.parquet")

    def held(choice: Choice) -> list[str]:
        return [name for name in tables if sources.holds_images(str(tmp_path / f"{name}.parquet"), choice)]

    assert held(UNCHOSEN) == ["usual", "only", "usual beside names", "struct beside names", "only beside a key"]
    assert held(Choice(image_column="right")) == ["two"]
    assert held(Choice(image_column="Path")) == ["names alone"], "asked for"
    assert sources.read_image(f"{tmp_path}/hashes.parquet#0")[0] == b"x", "planned before hashes were told apart"
    assert sources.read_image(f"{tmp_path}/two.parquet#right/0")[0] == b"x"
    with pytest.raises(ValueError, match="no column of images"):
        sources.read_image(f"{tmp_path}/two.parquet#0")
    with pytest.raises(ValueError, match="holds string, expected bytes"):
        sources.holds_images(str(tmp_path / "usual.parquet"), Choice(image_column="text"))


def test_whole_containers_among_others(root: str) -> None:
    storage.write_bytes(storage.join(root, "a.tar"), tar_of(IMAGES))
    storage.write_bytes(storage.join(root, "b.jpg"), b"picture")
    buffer = io.BytesIO()
    pq.write_table(pa.table({"caption": ["no image"]}), buffer)
    storage.write_bytes(storage.join(root, "c.parquet"), buffer.getvalue())
    whole = list_images(root, Wanted(whole=True))
    assert [file.uri for file in whole.files] == [storage.join(root, "a.tar"), storage.join(root, "b.jpg")]
    assert whole.skipped == 1
    each = [file.uri for file in list_images(root).files]
    assert each == [*(f"{storage.join(root, 'a.tar')}#{name}" for name in IMAGES), storage.join(root, "b.jpg")]


def test_uri_columns(tmp_path: Path) -> None:
    for number in range(2):
        table = pa.table({"key": ["k"], "source": [f"photos/{number}.jpg"]})
        pq.write_table(table, tmp_path / f"{number}.parquet")
    (tmp_path / "more.csv").write_text("source,caption\nphotos/9.jpg,nine\n")
    found = list_images(str(tmp_path), Wanted(uri_column="source"))
    assert [Path(file.uri).name for file in found.files] == ["0.jpg", "1.jpg", "9.jpg"]
    with pytest.raises(ValueError, match="it has no column 'link'; it has 'key', 'source'"):
        list_images(str(tmp_path / "0.parquet"), Wanted(uri_column="link"))
    (tmp_path / "sub").mkdir()
    with pytest.raises(ValueError, match="as --uri-column needs"):
        list_images(str(tmp_path / "sub"), Wanted(uri_column="source"))


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("a/{08..11}.tar", ["a/08.tar", "a/09.tar", "a/10.tar", "a/11.tar"]),
        ("{b,a}-{0..1}", ["b-0", "b-1", "a-0", "a-1"]),
        ("{3..1}", ["3", "2", "1"]),
        ("{0..9..4}", ["0", "4", "8"]),
        ("x{a,{b,c}}", ["xa", "xb", "xc"]),
        ("{}{one}", None),
        ("{one}{a,b}", ["{one}a", "{one}b"]),
        ("plain", None),
        ("{a,a}", ["a"]),
    ],
)
def test_braces(pattern: str, names: list[str] | None) -> None:
    assert expand(pattern) == names


def test_too_many_names() -> None:
    for pattern in ("{0..1000000}", "{0..9999}{0..9999}"):
        with pytest.raises(ValueError, match="more than 1000000 names"):
            expand(pattern)
