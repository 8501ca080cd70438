from __future__ import annotations

import functools
import os
import pickle
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from ddpm_seg import storage

HOSTILE = [
    "two words",
    "100%20",
    "a#b?c=1",
    "a::b",
    "~",
    "new\nline",
    "s3:",
    "[1]*",
    "ünï",
    b"\xff\xfe".decode("utf-8", "surrogateescape"),
    "-rf",
    "a&b;c",
    "x" * 255,
]


@pytest.fixture(params=["local", "s3"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path) if request.param == "local" else request.getfixturevalue("s3")()


def test_names() -> None:
    assert storage.normalize("a/../b/") == str(Path.cwd() / "b")
    assert storage.normalize("/x/a#b?c::d/~") == "/x/a#b?c::d/~"
    assert storage.normalize("file:///x/two%20words") == "/x/two words"
    assert storage.normalize("S3://bucket/a/") == "s3://bucket/a"
    assert storage.normalize("https://host/a?q=b/") == "https://host/a?q=b/"
    assert storage.join("s3://bucket/", "a/", "/b") == "s3://bucket/a/b"
    assert storage.join("/", "a") == "/a"
    assert [storage.is_local(uri) for uri in ("a:b", "/s3://x", "file:///x", "s3://x/y")] == [True, True, True, False]
    for name in HOSTILE:
        path = Path("/folder") / name
        assert storage.normalize(str(path)) == storage.normalize(path.as_uri()) == str(path)
    for bad in ("", "file://host/x"):
        with pytest.raises(ValueError, match="expected"):
            storage.normalize(bad)


def test_places_of_a_configuration_get_their_one_spelling() -> None:
    @dataclass(frozen=True)
    class Configuration:
        output: str
        labels: str | None = None

        def __post_init__(self) -> None:
            storage.normalize_places(self, "output", "labels")

    assert Configuration("out/").output == str(Path.cwd() / "out")
    assert Configuration("S3://b/x/", labels="file:///x/two%20words") == Configuration("s3://b/x", "/x/two words")
    assert Configuration("/x").labels is None
    for secret in ("https://u:hidden@b/out?token=hidden", "s3://key:hidden@b/out"):
        with pytest.raises(ValueError, match=r"^\w+://b/out: ") as refusal:
            Configuration(secret)
        assert "hidden" not in str(refusal.value)


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("https://user:se@host/x.png", "https://host/x.png"),
        ("https://host:80/x.png?X-Amz-Signature=secret#secret", "https://host:80/x.png"),
        ("https://host:80/a@b.png", "https://host:80/a@b.png"),
        ("HTTP://host/x?secret\nsecret", "HTTP://host/x"),
        ("s3://KEY:se/cr+et@bucket/a@b?c", "s3://bucket/a@b?c"),
        ("s3://bucket/a@b?c#d", "s3://bucket/a@b?c#d"),
        ("/folder/a@b?c", "/folder/a@b?c"),
    ],
)
def test_redacted_names_have_no_secret_and_all_the_rest(uri: str, shown: str) -> None:
    assert storage.redact(uri) == shown


def test_credentials_in_an_s3_uri_are_refused_without_being_repeated() -> None:
    with pytest.raises(ValueError, match="must not contain credentials") as caught:
        storage.read_bytes("s3://KEY:secret/part@bucket/key")
    assert "secret" not in str(caught.value)


def test_under_a_name_that_no_file_can_have_there_is_none(tmp_path: Path) -> None:
    for name in ("x" * 300, "/".join(["x" * 200] * 30), "x/" + "y" * 300, "a\0b"):
        assert not storage.exists(f"{tmp_path}/{name}")
    assert not list(storage.list_files(f"{tmp_path}/{'x' * 300}"))


def test_round_trip(root: str) -> None:
    uri = storage.join(root, "folder", "file.bin")
    assert not storage.exists(uri)
    for data in (b"first", b"", bytes(range(256)) * 1000):
        storage.write_bytes(uri, data)
        assert storage.read_bytes(uri) == data
        assert storage.read_bytes(uri, max_bytes=len(data)) == data
        assert storage.info(uri).size_bytes == len(data)
    with pytest.raises(storage.FileTooLargeError, match="255999"):
        storage.read_bytes(uri, max_bytes=255_999)
    assert storage.exists(uri)
    assert storage.exists(storage.join(root, "folder"))
    with pytest.raises(IsADirectoryError):
        storage.info(storage.join(root, "folder"))
    for read in (storage.read_bytes, storage.info, functools.partial(storage.read_bytes, max_bytes=3)):
        with pytest.raises(FileNotFoundError):
            read(storage.join(root, "absent"))  # type: ignore[operator]


def test_an_open_file_is_read_in_any_parts(root: str) -> None:
    uri, data = storage.join(root, "a file"), bytes(range(100))
    storage.write_bytes(uri, data)
    with storage.open_file(uri) as file:
        for start, size in ((90, 5), (0, 10), (98, 10), (100, 1), (20, 0)):
            assert file.seek(start) == file.tell() == start
            assert file.read(size) == data[start : start + size]
        assert file.seek(-4, os.SEEK_END) == 96
        assert (file.seek(-1, os.SEEK_CUR), file.read()) == (95, data[95:])
    with pytest.raises(FileNotFoundError):
        storage.open_file(storage.join(root, "absent"))


def test_info_tells_versions_apart(root: str) -> None:
    uri = storage.join(root, "file")
    storage.write_bytes(uri, b"one")
    first = storage.info(uri)
    assert first == next(storage.list_files(root)) == pickle.loads(pickle.dumps(first))
    assert first.modified is not None
    assert abs(datetime.now(timezone.utc) - first.modified) < timedelta(minutes=5)
    assert first.etag is None if storage.is_local(root) else first.etag == "f97c5d29941bfb1b2fdab0874906ab82"  # the MD5
    storage.write_bytes(uri, b"two")
    assert storage.info(uri) != first


def test_listing_is_recursive_and_of_files_only_sorted_on_a_local_disk(root: str) -> None:
    names = ["a/x/1", "a-b", "a/x.png", "ab", "b/c/d/e", "a.txt", "B"]
    for name in names:
        storage.write_bytes(storage.join(root, "p", name), b"")
    storage.write_bytes(storage.join(root, "pp"), b"")  # begins with the same letters, but is not in the folder
    found = [file.uri for file in storage.list_files(storage.join(root, "p"))]
    found = found if storage.is_local(root) else sorted(found)  # SeaweedFS sorts folder by folder
    assert found == [storage.join(root, "p", name) for name in sorted(names)]
    assert [file.uri for file in storage.list_files(storage.join(root, "pp"))] == [storage.join(root, "pp")]
    assert list(storage.list_files(storage.join(root, "nothing"))) == []
    below = [file.uri for file in storage.glob(storage.join(root, "p", "a*"))]
    assert below == [storage.join(root, "p", name) for name in ("a-b", "a.txt", "ab")]
    assert len(storage.glob(storage.join(root, "p", "**", "[1e]"))) == 2


def test_delete_takes_the_named_thing_and_nothing_else(root: str) -> None:
    for name in ("a*", "abc", "tree/x/1", "tree/2", "treetop"):
        storage.write_bytes(storage.join(root, name), b"")
    for name in ("a*", "tree", "absent", "absent/below"):
        storage.delete(storage.join(root, name))
    assert [file.uri for file in storage.list_files(root)] == [storage.join(root, n) for n in ("abc", "treetop")]


def test_create_leaves_what_stands_there(root: str) -> None:
    uri = storage.join(root, "new", "file")
    assert storage.create_bytes(uri, b"first")
    assert not storage.create_bytes(uri, b"second, longer")
    assert not storage.create_bytes(uri, b"first")
    assert storage.read_bytes(uri) == b"first"
    assert [file.uri for file in storage.list_files(root)] == [uri]


def rounds(root: str) -> int:
    return 10 if storage.is_local(root) else 2  # SeaweedFS makes the losers wait whole seconds


def winners(results: list[list[int]], root: str, size: int) -> None:
    """Every name has one winner, whose content stands there, whole."""
    won: dict[int, int] = {}
    for racer, names in enumerate(results):
        for name in names:
            assert name not in won, f"{racer} and {won[name]} both created {name}"
            won[name] = racer
    content = {int(file.uri.rpartition("/")[2]): storage.read_bytes(file.uri) for file in storage.list_files(root)}
    assert content == {name: bytes([racer]) * size for name, racer in won.items()}
    assert len(content) == rounds(root)


def test_of_eight_threads_racing_for_a_name_one_wins(root: str) -> None:
    barrier = threading.Barrier(8)

    def race(racer: int) -> list[int]:
        won = []
        for name in range(rounds(root)):
            barrier.wait()
            if storage.create_bytes(storage.join(root, str(name)), bytes([racer]) * 300_000):
                won.append(name)
        return won

    with ThreadPoolExecutor(8) as pool:
        winners(list(pool.map(race, range(8))), root, 300_000)


RACE = """
import sys
from ddpm_seg import storage
root, racer, rounds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
storage.exists(root)
print("ready", flush=True)
sys.stdin.readline()
print([name for name in range(rounds) if storage.create_bytes(storage.join(root, str(name)), bytes([racer]) * 300_000)])
"""


def test_of_processes_racing_for_a_name_one_wins(root: str) -> None:
    pipe = subprocess.PIPE
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACE, root, str(i), str(rounds(root))], stdin=pipe, stdout=pipe, text=True
        )
        for i in range(8 if storage.is_local(root) else 3)  # a client of S3 takes a second to start
    ]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    winners([eval(racer.communicate(timeout=60)[0]) for racer in racers], root, 300_000)


def test_check_writable(root: str) -> None:
    storage.check_writable(storage.join(root, "new", "folder"))
    assert list(storage.list_files(root)) == []


# --- local ---


@pytest.mark.parametrize("name", HOSTILE)
def test_local_names_are_taken_literally(tmp_path: Path, name: str) -> None:
    uri = f"{tmp_path}/{name}"
    assert storage.create_bytes(uri, b"1")
    storage.write_bytes(uri, b"22")
    assert os.listdir(tmp_path) == [name]  # noqa: PTH208  the names as they are
    assert [file.uri for file in storage.list_files(str(tmp_path))] == [uri]
    assert storage.read_bytes(uri) == b"22"
    storage.delete(uri)
    assert os.listdir(tmp_path) == []  # noqa: PTH208


def test_listing_follows_links_but_not_round_in_circles(tmp_path: Path) -> None:
    for folder in ("data", "elsewhere"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "file").touch()
    (tmp_path / "data" / "up").symlink_to("..")
    (tmp_path / "data" / "self").symlink_to("self")
    (tmp_path / "data" / "broken").symlink_to("nowhere")
    (tmp_path / "data" / "linked").symlink_to("../elsewhere")
    os.mkfifo(tmp_path / "data" / "pipe")
    found = [file.uri.removeprefix(f"{tmp_path}/data/") for file in storage.list_files(f"{tmp_path}/data")]
    assert found == ["file", "linked/file"]  # which is up/elsewhere too: each real folder comes once
    with pytest.raises(storage.StorageError, match="not a regular file"):
        storage.read_bytes(f"{tmp_path}/data/pipe")


WRITE = """
import sys
from ddpm_seg import storage
for i in range(10**9):
    storage.write_bytes(sys.argv[1], bytes([i % 256]) * 5_000_000)
    print(i, flush=True)
"""


def test_readers_and_a_killed_writer_leave_no_half_file(tmp_path: Path) -> None:
    uri = f"{tmp_path}/file"
    writer = subprocess.Popen([sys.executable, "-c", WRITE, uri], stdout=subprocess.PIPE)
    assert writer.stdout is not None
    assert writer.stdout.readline() == b"0\n"
    seen = [storage.read_bytes(uri) for _ in range(20)]
    writer.kill()
    writer.wait()
    seen.append(storage.read_bytes(uri))
    assert {(len(data), len(set(data))) for data in seen} == {(5_000_000, 1)}
    assert [file.uri for file in storage.list_files(str(tmp_path))] == [uri]  # whatever temporary file is left


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError):
        storage.write_bytes(f"{tmp_path}/folder", b"1")
    with pytest.raises(IsADirectoryError):
        storage.create_bytes(f"{tmp_path}/folder", b"1")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_unwritable_local_folders_are_named_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(storage.StorageError, match="a part of the path is a file") as caught:
        storage.check_writable(f"{tmp_path}/file/folder")
    assert str(caught.value).startswith(f"{tmp_path}/file/folder is not writable: ")
    (tmp_path / "closed").mkdir(mode=0o555)
    root = os.geteuid() == 0
    if root:  # root may write anywhere; nobody may not
        tmp_path.parent.chmod(0o755)
        os.seteuid(65534)
    try:
        with pytest.raises(storage.StorageError, match="Permission denied"):
            storage.check_writable(f"{tmp_path}/closed")
    finally:
        if root:
            os.seteuid(0)
