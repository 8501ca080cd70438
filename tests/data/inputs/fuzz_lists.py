"""Lists as a stranger may write them: every entry becomes a file name or an error row, and nothing else is touched.

    python -m tests.data.inputs.fuzz_lists --count 20000 --seed 1

Each entry is listed, looked up and read as the label job does it. An audit hook watches what is opened or connected to.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from ddpm_seg import storage
from ddpm_seg.data.inputs.listing import list_images
from ddpm_seg.data.inputs.versions import with_versions
from ddpm_seg.storage import patience, stores
from tests.memory import peak_memory
from tests.web_server import web_server

BATCH = 50  # entries of a list
SECONDS, MEMORY = 10.0, 2_000_000_000

PROTOCOLS = (  # noqa: SIM905  one a line would be pages
    "http https s3 s3a ftp sftp ssh smb file FILE local memory zip tar reference cached simplecache filecache "
    "blockcache dir generic github gist git hf hdfs webhdfs jupyter dask dbfs data libarchive gs gcs abfs az adl "
    "oss box dropbox asynclocal asyncwrapper lakefs root tos wandb dvc shell nosuch gopher dict ldap jar "
    "javascript"
).split()
HOSTS = (  # noqa: SIM905  one a line would be pages
    "127.0.0.1 localhost 2130706433 0x7f000001 0177.0.0.1 127.1 0 0.0.0.0 [::1] [::ffff:127.0.0.1] "
    "[::ffff:7f00:1] 169.254.169.254 [fd00:ec2::254] [fe80::1%lo] user:password@127.0.0.1 127.0.0.1:1 "
    "127.0.0.1:99999 [::1 xn--a .. host.invalid host.invalid@127.0.0.1 127.0.0.1#host.invalid "
    "127.0.0.1%00.invalid arn:aws:s3:eu:1:accesspoint"
).split()
PATHS = (  # noqa: SIM905  one a line would be pages
    "/etc/shadow /etc/passwd /proc/self/environ /proc/kmsg /proc/kcore /proc/self/fd/0 /sys/kernel/notes "
    "/dev/zero /dev/stdin /dev/tty /dev/fd/0 ../../../../etc/shadow x.png ok.png ./ok.png ok.png/ "
    "ok.png/../ok.png pipe folder self loop ~/x.png $HOME/x.png %2e%2e/%2e%2e/etc/shadow C:\\x.png "
    "\\\\host\\share\\x.png x.png?versionId=1 *.png a::b.png simplecache::ok.png zip://x.png::ok.png "
    "data:image/png;base64,AAAA -rf ;ls|x.png {x}.png"
).split()
_SPECIAL = frozenset(path for path in PATHS if path.startswith(("/proc/", "/sys/", "/dev/")))
CHARACTERS = [
    *map(chr, range(1, 256)),
    "\u202e",
    "\u2028",
    "\ufeff",
    "\u0301",
    "\udcff",
    "\U0001f600",
    "\0",
    '"',
    ",",
    ";",
]


def entry(rng: random.Random, web: str) -> str:
    """A name of some file, host or protocol, often spoilt."""
    kind = rng.randrange(6)
    if kind == 0:
        text = rng.choice(PATHS)
    elif kind == 1:
        text = f"{rng.choice(PROTOCOLS)}://{rng.choice(HOSTS)}/{rng.choice(PATHS)}"
    elif kind == 2:
        text = f"{rng.choice(PROTOCOLS)}://{rng.choice(PATHS)}"
    elif kind == 3:
        text = "".join(rng.choices(CHARACTERS, k=rng.randint(1, 40)))
    elif kind == 4:
        text = web.replace("127.0.0.1", rng.choice(HOSTS)) + f"/{rng.choice(PATHS)}"
    else:
        text = "::".join(rng.choice([*PATHS, *PROTOCOLS]) for _ in range(rng.randint(2, 4)))
    if rng.random() < 0.3:
        place = rng.randrange(len(text) + 1)
        text = text[:place] + rng.choice([rng.choice(CHARACTERS), "/" * 5000, "x" * 300, "../" * 20]) + text[place:]
    return text


def write_list(rng: random.Random, folder: Path, entries: list[str]) -> Path:
    """The entries in one of the forms of a list, encoded and separated in one of many ways."""
    form = rng.choice(["txt", "csv", "csv", "tsv", "parquet"])
    path = folder / f"list.{form}"
    if form == "parquet":
        texts = [text.encode("utf-8", "replace").decode() for text in entries]
        columns: dict[str, Any] = {rng.choice(["uri", "URL", "path", "name"]): texts}
        if rng.random() < 0.3:
            columns = {"bucket": rng.choices(["b", "", "../x", "a b"], k=len(texts)), "key": texts}
        if rng.random() < 0.3:
            columns |= {"etag": rng.choices(['"x"', None, ""], k=len(texts)), "size": list(range(len(texts)))}
        if "name" in columns:
            columns = {"name": texts}
        pq.write_table(pa.table(columns), path, compression=rng.choice(["snappy", "zstd", "none"]))
        return path
    separator = rng.choice([",", ";", "\t"])
    quote = rng.random() < 0.5
    lines = ['"' + text.replace('"', '""') + '"' if quote else text for text in entries]
    if form != "txt" and rng.random() < 0.5:
        lines = [f"{rng.choice(['uri', 'Path', 'url'])}{separator}etag{separator}size", *lines]
        lines = [line + separator * rng.randrange(3) + rng.choice(["", "x", "7"]) for line in lines]
    encoding = rng.choice(["utf-8", "utf-8", "utf-8", "utf-8-sig", "utf-16", "latin-1"])
    errors = "surrogateescape" if encoding == "utf-8" else "replace"
    path.write_bytes(rng.choice(["\n", "\r\n", "\n\n"]).join(lines).encode(encoding, errors))
    return path


@dataclasses.dataclass
class Watch:
    """What was opened or connected to that should not have been, while `watching`."""

    folder: str
    s3_port: int
    watching: bool = False
    reached: list[str] = dataclasses.field(default_factory=list)

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.watching:
            return
        if event == "open" and isinstance(arguments[0], str) and self._is_foreign(arguments[0]):
            self.reached.append(f"open {arguments[0]}")
        if event == "socket.connect" and isinstance(arguments[1], tuple) and arguments[1][1] != self.s3_port:
            self.reached.append(f"connect {arguments[1]}")
        if event in ("subprocess.Popen", "os.system"):
            self.reached.append(f"{event} {arguments[0]}")

    def _is_foreign(self, path: str) -> bool:
        """Whether it is none of a list's business. A local list may name any regular file, /etc/shadow too."""
        return path in _SPECIAL or path in (f"{self.folder}/pipe", f"{self.folder}/self")


def check(rng: random.Random, folder: Path, web: str, watch: Watch) -> Counter[str]:
    """One list of `BATCH` entries; what became of them. Raises AssertionError for anything but a file or an OSError."""
    outcomes: Counter[str] = Counter()
    path = write_list(rng, folder, [entry(rng, web) for _ in range(BATCH)])
    watch.watching = True
    try:
        start = time.monotonic()
        try:
            listing = list_images(str(path))
        except ValueError as error:
            if str(path) not in str(error):
                raise AssertionError(f"{error} does not name the list") from error
            return Counter({"list refused": BATCH})
        assert time.monotonic() - start < SECONDS, f"listing took {time.monotonic() - start:.1f} s"
        outcomes["refused entry"] += len(listing.refused)
        for one in with_versions(listing.files):
            outcomes[_read(one.uri)] += 1
    finally:
        watch.watching = False
    return outcomes


def _read(uri: str) -> str:
    start = time.monotonic()
    try:
        data, _ = storage.read_listed(uri, max_bytes=1_000_000)
        assert len(data) <= 1_000_000
        return "read"
    except (OSError, ValueError) as error:  # of which `fetch` makes a row
        if "hunter2" in str(error):
            raise AssertionError(f"{error} has a secret in it") from error
        return type(error).__name__
    finally:
        assert time.monotonic() - start < SECONDS, f"{uri!r} took {time.monotonic() - start:.1f} s"


@contextlib.contextmanager
def place() -> Iterator[Path]:
    """A folder with an image, a named pipe, links and a folder, and no way of waiting for what does not answer."""
    before = patience.PATIENCE_S
    patience.PATIENCE_S = 0.0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        Image.new("RGB", (2, 2)).save(folder / "ok.png")
        os.mkfifo(folder / "pipe")
        (folder / "folder").mkdir()
        (folder / "self").symlink_to("/proc/self")
        (folder / "loop").symlink_to("loop")
        try:
            yield folder
        finally:
            patience.PATIENCE_S = before


@contextlib.contextmanager
def no_s3() -> Iterator[int]:
    """The port of an S3 endpoint that has nothing."""
    with web_server() as server:
        values = {
            "AWS_ENDPOINT_URL": server.url,
            "AWS_ACCESS_KEY_ID": "hunter2hunter2",
            "AWS_SECRET_ACCESS_KEY": "hunter2hunter2hunter2",
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        before = {name: os.environ.get(name) for name in values}
        os.environ.update(values)
        stores._open_filesystem.cache_clear()
        try:
            yield int(server.url.rpartition(":")[2])
        finally:
            stores._open_filesystem.cache_clear()
            for name, value in before.items():
                os.environ.pop(name)
                os.environ |= {name: value} if value is not None else {}


def fuzz(count: int, seed: int) -> Counter[str]:
    """At least `count` entries; what became of them."""
    rng, outcomes = random.Random(seed), Counter[str]()
    with web_server() as web, no_s3() as s3_port, place() as folder:
        watch = Watch(folder=str(folder), s3_port=s3_port)
        sys.addaudithook(watch)  # for ever; it looks only while it is told to
        while outcomes.total() < count:
            outcomes.update(check(rng, folder, web.url, watch))
        assert not watch.reached, watch.reached[:5]
        assert not web.asked, web.asked
    peak = peak_memory()
    assert peak < MEMORY, f"{peak} bytes"
    return outcomes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    start = time.monotonic()
    outcomes = fuzz(arguments.count, arguments.seed)
    print(f"{outcomes.total()} entries in {time.monotonic() - start:.0f} s: {dict(outcomes.most_common())}")


if __name__ == "__main__":
    main()
