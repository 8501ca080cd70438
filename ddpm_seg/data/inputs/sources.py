"""Where images come from: files, and containers that hold many. All images of this package are read through here.

A URI names a file (`s3://bucket/a.jpg`), or an image in a container: the container's URI, `#` and the image's name
there (`s3://bucket/a.zip#cats/1.jpg`). An image in a container has the container's version (ETag, size and time).
"""

from __future__ import annotations

import dataclasses
import errno
import functools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ddpm_seg import storage
from ddpm_seg.data.decoding.formats import EXTENSIONS
from ddpm_seg.data.decoding.images import DEFAULT_LIMITS
from ddpm_seg.data.inputs.container import UNCHOSEN, Choice, Container, IndexedContainer, Kind
from ddpm_seg.data.inputs.lance_container import LANCE
from ddpm_seg.data.inputs.parquet_container import PARQUET
from ddpm_seg.data.inputs.tar_container import TAR
from ddpm_seg.storage import FileInfo

KINDS: tuple[Kind, ...] = (TAR, PARQUET, LANCE)
"""The kinds of container. To add one, write a file beside this one and add its name here."""

# Limit per process, as each may hold an index of its images.
OPEN_CONTAINERS = 8


class ContainerError(ValueError):
    """A container that is damaged, or is not one."""


def split(uri: str) -> tuple[str, str]:
    """The file's URI, and `#name` for an image in it, or "" if the file itself is the image."""
    place = uri.find("#")
    while place >= 0:
        if _kind_of(uri[:place]) is not None:
            return uri[:place], uri[place:]
        place = uri.find("#", place + 1)
    return uri, ""


def normalize(uri: str) -> str:
    """Applies `storage.normalize` to the file; the name of an image in a container is taken literally."""
    file, member = split(uri)
    return storage.normalize(file) + member


def is_container(uri: str) -> bool:
    """Whether a file's name is that of a container; the file is not opened."""
    return _kind_of(uri) is not None and not is_in_container(uri)


def refuse_on_web(uri: str) -> None:
    """Raises ValueError for a container on a web server, whose images no URI could name: servers never see what follows
    a "#"."""
    if storage.is_http(uri) and (kind := _kind_named(storage.redact(uri))) is not None:
        raise ValueError(
            f"{storage.redact(uri)}: images in a {kind.suffixes[0]} file on a web server cannot be read one by one; "
            "download it, or copy it to a bucket, and give that name"
        )


def is_in_container(uri: str) -> bool:
    """Whether a URI names an image in a container."""
    return split(uri)[1] != ""


def is_image_name(uri: str) -> bool:
    """Whether this names an image in a container, or a file with an image's extension."""
    return uri.lower().endswith(tuple(EXTENSIONS)) or is_in_container(uri)


def is_indexed(uri: str) -> bool:
    """Whether a file's name is that of a container that tells where its images are; the file is not opened."""
    kind = _kind_of(uri)
    return kind is not None and kind.open_indexed is not None and not is_in_container(uri)


def kind_name(uri: str) -> str:
    """The name of the kind of container that a file's name tells: "tar"."""
    kind = _kind_of(uri)
    return "" if kind is None else kind.suffixes[0].lstrip(".")


def info(uri: str, *, listed: bool = False) -> FileInfo:
    """`storage.info` of an image; for one in a container, that of the container, which is not opened."""
    file, member = split(uri)
    found = storage.info(file, listed=listed)
    return dataclasses.replace(found, uri=found.uri + member) if member else found


def exists(uri: str) -> bool:
    """Whether the file exists; an image's name in a container is not checked."""
    return storage.exists(split(uri)[0])


def images_in(container: str, choice: Choice = UNCHOSEN) -> Iterator[FileInfo] | None:
    """Yields the images in a container; None if the file turns out not to be a container.

    Raises OSError if it cannot be read, ContainerError if it is damaged; either may come only after some images.
    """
    kind = _kind_of(container)
    if kind is not None and kind.open_indexed is not None:
        return _chosen_in(container, choice)
    opened = None if kind is None else _open(kind, container)
    return None if opened is None else _images_in(opened)


def holds_images(container: str, choice: Choice) -> bool:
    """Whether a file with the name of an indexed container is one, which takes at most the reading of its footer."""
    if kind_name(container) == "tar":
        return True
    opened, _ = open_indexed(container)
    with damage_named(container):
        return opened.holds_images(choice)


def open_indexed(uri: str) -> tuple[IndexedContainer, FileInfo]:
    """Opens a container of a kind that is indexed; also returns its version. Raises OSError, and ContainerError for a
    damaged one."""
    kind = _kind_of(uri)
    assert kind is not None
    assert kind.open_indexed is not None
    file, version = storage.open_listed(uri)
    with _damage_named(kind):
        return kind.open_indexed(file), version


def open_exactly(file: FileInfo) -> IndexedContainer | None:
    """Opens this version of a container that is indexed, whose reads fail if there is another one. None where its
    storage cannot do that. Raises as `open_indexed` does."""
    kind, opened = _kind_of(file.uri), storage.open_exactly(file)
    assert kind is not None
    assert kind.open_indexed is not None
    if opened is None:
        return None
    with _damage_named(kind):
        return kind.open_indexed(opened)


@contextmanager
def damage_named(uri: str) -> Iterator[None]:
    """Turns what the kind of this container raises for a damaged file into a ContainerError."""
    kind = _kind_of(uri)
    assert kind is not None
    with _damage_named(kind):
        yield


def _chosen_in(container: str, choice: Choice) -> Iterator[FileInfo] | None:
    opened, version = open_indexed(container)
    with damage_named(container):
        return _members_of(opened, version, choice) if opened.holds_images(choice) else None


def _members_of(opened: IndexedContainer, version: FileInfo, choice: Choice) -> Iterator[FileInfo]:
    with damage_named(version.uri):
        for member in opened.members(choice):
            yield dataclasses.replace(version, uri=f"{version.uri}#{member.name}")


def read_image(uri: str, *, max_bytes: int = DEFAULT_LIMITS.max_bytes, listed: bool = True) -> tuple[bytes, FileInfo]:
    """An image file's bytes, and the version that they belong to, whose size is the number of bytes.

    `listed`: the name comes from a list or table, which may be untrusted, and not from the user; see
    `storage.read_listed`. Raises OSError if the file cannot be read, storage.FileTooLargeError over `max_bytes`, and
    ValueError for an impossible name or a damaged container.
    """
    file, member = split(uri)
    if member:
        return _read_member(file, member, max_bytes)
    if listed:
        return storage.read_listed(file, max_bytes=max_bytes)
    data = storage.read_bytes(file, max_bytes=max_bytes)
    return data, FileInfo(uri=storage.normalize(file), size_bytes=len(data))


def error_type(error: OSError | ValueError) -> str:
    """The type, in tables, of an error of `read_image` or `images_in`."""
    if isinstance(error, storage.FileTooLargeError):
        return "too_many_bytes"
    if isinstance(error, FileNotFoundError):
        return "not_found"
    return "access_denied" if isinstance(error, PermissionError) else "read_failed"


def is_outage(error: Exception, uri: str) -> bool:
    """Whether a store cannot be reached, so that the image is not at fault.

    Does not count a store whose host the URI itself names, as https:// does: a list may name many dead ones.
    """
    return isinstance(error, storage.StorageUnavailableError) and not storage.names_its_host(uri)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Opened:
    kind: Kind
    container: Container
    version: FileInfo


class _Shared:
    """One version of a container, opened once for all threads that read its images."""

    def __init__(self, kind: Kind, version: FileInfo) -> None:
        self._kind, self._uri, self._lock = kind, version.uri, threading.Lock()
        self._opened: _Opened | None = None

    def read(self, name: str, max_bytes: int) -> tuple[bytes, FileInfo]:
        with self._lock:
            self._opened = self._opened or _open(self._kind, self._uri)
            if self._opened is None:
                raise ContainerError("it holds no images")
            with _damage_named(self._kind):
                return self._opened.container.read(name, max_bytes), self._opened.version


def _kind_of(uri: str) -> Kind | None:
    return None if storage.is_http(uri) else _kind_named(uri)  # see `refuse_on_web`


def _kind_named(uri: str) -> Kind | None:
    name = uri.lower()
    return next((kind for kind in KINDS if name.endswith(kind.suffixes)), None)


def _open(kind: Kind, uri: str) -> _Opened | None:
    file, version = storage.open_listed(uri)
    with _damage_named(kind):
        # One that is indexed is opened like this only to read an image, of whichever column its name tells.
        container = (kind.open_indexed or kind.open)(file)
    return None if container is None else _Opened(kind=kind, container=container, version=version)


def _images_in(opened: _Opened) -> Iterator[FileInfo]:
    seen: set[str] = set()
    with _damage_named(opened.kind):
        for name in opened.container.names():
            if name in seen:
                raise ContainerError(f"it holds two images called {name!r}")
            seen.add(name)
            yield dataclasses.replace(opened.version, uri=f"{opened.version.uri}#{name}")


def _read_member(file: str, member: str, max_bytes: int) -> tuple[bytes, FileInfo]:
    kind = _kind_of(file)
    assert kind is not None  # else there would be no member
    data, version = _shared(kind, storage.info(file, listed=True)).read(member[1:], max_bytes)
    if len(data) > max_bytes:
        reason = f"larger than the limit of {max_bytes} bytes"
        raise storage.FileTooLargeError(errno.EFBIG, reason, version.uri + member)
    return data, dataclasses.replace(version, uri=version.uri + member, size_bytes=len(data))


@functools.lru_cache(maxsize=OPEN_CONTAINERS)
def _shared(kind: Kind, version: FileInfo) -> _Shared:
    return _Shared(kind, version)


@contextmanager
def _damage_named(kind: Kind) -> Iterator[None]:
    try:
        yield
    except kind.errors as error:
        raise _damage(kind, error) from error
    except OSError as error:
        if type(error) is not OSError or error.errno is not None:
            raise
        raise _damage(kind, error) from error  # Arrow raises a bare OSError for bytes that it cannot parse


def _damage(kind: Kind, error: Exception) -> ContainerError:
    return ContainerError(f"it is not a complete {kind.suffixes[0]} file: {' '.join(str(error).split())}")
