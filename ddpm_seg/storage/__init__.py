"""Reads and writes files by path or URI: a local path, `s3://…`, `https://…` or anything else that fsspec can open.

Local paths are taken literally (see `uris`). Everything else goes through fsspec; `s3fs` and `aiohttp` are imported
only for a URI that needs them. Credentials and endpoints come from the environment or the machine's role
(`AWS_ENDPOINT_URL`, `AWS_ACCESS_KEY_ID`, …), never from URIs, arguments or pickles.

Writes are atomic: no reader ever sees half a file. Errors are `OSError`s without credentials in their text. Remote
requests that fail for a reason that may pass (5xx, throttling, time-outs, broken connections) are retried for about two
minutes, here and nowhere else, and then raise StorageUnavailableError; wrong requests (403, 404) fail at once, as do
credentials that the store does not accept (CredentialsError).

Other packages import `storage` and call `storage.read_bytes(…)`; the modules in this package are internal.
"""

from ddpm_seg.storage.errors import CredentialsError, StorageError, StorageUnavailableError
from ddpm_seg.storage.files import (
    FileInfo,
    FileTooLargeError,
    check_writable,
    create_bytes,
    delete,
    delete_unfinished,
    exists,
    glob,
    info,
    list_files,
    list_matching_folders,
    list_prefix,
    open_exactly,
    open_file,
    open_listed,
    read_bytes,
    read_listed,
    write_bytes,
)
from ddpm_seg.storage.git_lfs import lfs_pointer
from ddpm_seg.storage.hosts import allow_local_hosts, local_hosts_allowed
from ddpm_seg.storage.known_secrets import without_secrets
from ddpm_seg.storage.local import temporary_name
from ddpm_seg.storage.quoted_content import without_content
from ddpm_seg.storage.stores import names_its_host
from ddpm_seg.storage.uris import is_http, is_local, join, normalize, normalize_places, place, redact, redact_text

__all__ = [
    "CredentialsError",
    "FileInfo",
    "FileTooLargeError",
    "StorageError",
    "StorageUnavailableError",
    "allow_local_hosts",
    "check_writable",
    "create_bytes",
    "delete",
    "delete_unfinished",
    "exists",
    "glob",
    "info",
    "is_http",
    "is_local",
    "join",
    "lfs_pointer",
    "list_files",
    "list_matching_folders",
    "list_prefix",
    "local_hosts_allowed",
    "names_its_host",
    "normalize",
    "normalize_places",
    "open_exactly",
    "open_file",
    "open_listed",
    "place",
    "read_bytes",
    "read_listed",
    "redact",
    "redact_text",
    "temporary_name",
    "without_content",
    "without_secrets",
    "write_bytes",
]
