"""Opens fsspec's file systems for remote URIs: one per process and protocol (and host)."""

from __future__ import annotations

import functools
import os
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from ddpm_seg.storage import hosts
from ddpm_seg.storage.errors import StorageError, describe
from ddpm_seg.storage.pace import MOST
from ddpm_seg.storage.uris import is_http, redact, scheme

CONNECT_TIMEOUT_S = 10
READ_TIMEOUT_S = 30  # without receiving a byte; a store under load may need many seconds to answer
ANSWER_TIMEOUT_S = 60  # for an http(s) server's headers about a file
DOWNLOAD_TIMEOUT_S = 300  # for a whole file from an http(s) server, which may be a stranger's

_EXTRAS = {"s3": "s3", "s3a": "s3", "http": "https", "https": "https"}
# Protocols without files of their own: they wrap other protocols, possibly local files.
_WRAPPERS = frozenset(
    (
        *("asynclocal", "asyncwrapper", "async_wrapper", "blockcache", "cached", "dir", "dvc", "filecache", "generic"),
        *("git", "libarchive", "reference", "simplecache", "tar", "zip"),
    )
)

Options = tuple[tuple[str, Any], ...]


def is_s3(uri: str) -> bool:
    return scheme(uri) in ("s3", "s3a")


def store_of(uri: str, *, guarded: bool = False) -> Any:
    """fsspec's file system for `uri`, shared by the threads of this process.

    `guarded` is for URIs from lists: it refuses local hosts. Raises StorageError for a protocol that cannot be used,
    and, if guarded, LocalHostError for a URI that names a local host.
    """
    if is_s3(uri) and "?versionId=" in uri:  # s3fs would silently drop it and use another object
        raise StorageError(f"{redact(uri)}: a name with '?versionId=' in it cannot be read or written")
    if is_http(uri) or is_s3(uri):
        return _open_filesystem(scheme(uri), os.getpid(), guarded and is_http(uri), ())
    options = _options_in(uri)
    host = dict(options).get("host")
    if guarded and isinstance(host, str):
        hosts.refuse_local_host(host)
    return _open_filesystem(scheme(uri), os.getpid(), guarded, options)


def names_its_host(uri: str) -> bool:
    """Whether `uri` names a server, as https:// and ftp:// do and s3:// does not."""
    return is_http(uri) or (not is_s3(uri) and "host" in dict(_options_in(uri)))


def _options_in(uri: str) -> Options:
    """Options of the store that the URI itself contains, such as ftp's host and port."""
    found = _class_of(scheme(uri))._get_kwargs_from_urls(uri)
    return tuple(sorted((name, value) for name, value in found.items() if isinstance(value, str | int)))


@functools.cache
def _class_of(protocol: str) -> Any:
    """fsspec's class for `protocol`. Raises StorageError if it is unknown, wraps other protocols, or is local."""
    remedy = "name the file itself, by a path or the URI of its store"
    if protocol in _WRAPPERS:
        raise StorageError(f"{protocol}:// is not a store of files; {remedy}")
    try:
        found = fsspec.get_filesystem_class(protocol)
    except ImportError as error:
        extra = _EXTRAS.get(protocol)
        raise StorageError(
            f"{protocol}:// needs a package that is not installed: "
            + (f"pip install 'ddpm_seg[{extra}]'" if extra else str(error))
        ) from error
    except ValueError as error:
        raise StorageError(f"{protocol}:// is not a kind of storage that fsspec knows ({error})") from error
    if issubclass(found, LocalFileSystem):
        raise StorageError(f"{protocol}:// is not a store of files; {remedy}")
    return found


@functools.lru_cache(maxsize=64)
def _open_filesystem(protocol: str, pid: int, guarded: bool, options: Options) -> Any:
    """Opens one file system per protocol and process; fsspec's own cache would make one per thread."""
    found = _class_of(protocol)
    try:
        opened = found(skip_instance_cache=True, **_own_options(protocol, guarded), **dict(options))
    except ImportError as error:
        raise StorageError(f"{protocol}:// needs a package that is not installed: {error}") from error
    except (TypeError, ValueError, AssertionError, AttributeError) as error:
        # Some protocols need arguments that no URI can give, such as github:// and jupyter://.
        raise StorageError(f"{protocol}:// needs more than a URI to be opened ({describe(error)})") from error
    if protocol in ("s3", "s3a"):
        opened.retries = 1  # only `patiently` retries
    return opened


def _own_options(protocol: str, guarded: bool) -> dict[str, Any]:
    if protocol in ("s3", "s3a"):
        config = {"connect_timeout": CONNECT_TIMEOUT_S, "read_timeout": READ_TIMEOUT_S}
        config["max_pool_connections"] = MOST  # botocore's own limit is 10
        # No retries in botocore either: it would try to complete a multipart upload twice.
        return {"use_listings_cache": False, "config_kwargs": config | {"retries": {"total_max_attempts": 1}}}
    if protocol not in ("http", "https"):
        return {}
    import aiohttp  # an optional dependency

    timeout = aiohttp.ClientTimeout(total=DOWNLOAD_TIMEOUT_S, sock_connect=CONNECT_TIMEOUT_S, sock_read=READ_TIMEOUT_S)

    async def client(**options: Any) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(**options, **(hosts.guarded_client_options() if guarded else {}))

    return {"encoded": True, "client_kwargs": {"trust_env": True, "timeout": timeout}, "get_client": client}
