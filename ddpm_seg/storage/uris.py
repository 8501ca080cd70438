"""Normalises file names (local paths, `s3://…`, `https://…`), and redacts them before they are shown.

Local paths become absolute and are taken literally: `~`, `%20` and `::` have no special meaning. Names that are not
UTF-8 are Python strings with surrogate escapes. Redacted names contain no credentials.
"""

from __future__ import annotations

import os
import re
from urllib.parse import unquote

from ddpm_seg.storage.known_secrets import without_secrets

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
# `user:password@` before the host. The second form matches a password with a bare "/" in it, as AWS secret keys often
# have: what follows the colon is not a port. Amazon's resource names (`arn:aws:s3:…`), which may be in the bucket's
# place and have colons too, are not matched.
_USERINFO = re.compile(r"(?<=://)(?!arn:)(?:[^/?#\s]*@|[^/?#@:\[\s]*:(?!\d*(?:[/?#\s]|$))[^@\s]*@)")
_QUERY = re.compile(r"^(https?://[^?#]*)[?#].*", re.DOTALL | re.IGNORECASE)
_HTTP_QUERY = re.compile(r"(https?://[^\s?#'\"]*)[?#][^\s'\"]*", re.IGNORECASE)
# Authentication data: a server's or a proxy's answer may quote the whole request.
_PROOF = re.compile(
    r"([\w-]*(?:x-amz-|authorization|signature|credential|signedheaders|accesskeyid|secret|token|password)[\w-]*"
    r"['\"]?\s*[=:>]\s*['\"]?)((?:basic|bearer|aws|aws4-hmac-sha256)\s+)?[^\s,&'\"<>]+",
    re.IGNORECASE,
)


def scheme(uri: str) -> str:
    """The scheme of a URI, such as `s3`, in lower case; empty for a plain path."""
    match = _SCHEME.match(uri)
    return match[1].lower() if match else ""


def is_http(uri: str) -> bool:
    return scheme(uri) in ("http", "https")


def is_local(uri: str) -> bool:
    """Whether `uri` is a path on this machine or a `file://` URI."""
    return scheme(uri) in ("", "file")


def normalize(uri: str) -> str:
    """The normal form of a path or URI: an absolute path for local names, otherwise the URI without a trailing slash.

    `file://` URIs are percent-decoded, plain paths are not. Raises ValueError for an empty name, and for credentials in
    a URI other than http(s).
    """
    if not uri:
        raise ValueError("an empty path or URI: expected a local path, s3://bucket/prefix or https://host/path")
    kind = scheme(uri)
    if kind == "file":
        host, slash, path = uri[len("file://") :].partition("/")
        if not slash or host not in ("", "localhost"):
            raise ValueError(f"{uri!r} is not an absolute file URI: expected file:///folder/name")
        return _absolute("/" + unquote(path, errors="surrogateescape"))
    if not kind:
        return _absolute(uri)
    uri = kind + uri[len(kind) :]
    if is_http(uri):
        return uri if re.search("[?#]", uri) else uri.rstrip("/")
    if redact(uri) != uri:
        raise ValueError(f"{redact(uri)}: a URI must not contain credentials; set them in the environment")
    return uri.rstrip("/")


ONLY_READ = "http(s) URLs can only be read file by file, not listed or written"


def place(uri: str) -> str:
    """Normalises a folder or prefix to write to or list. The result has no credentials, so it may be shown as it is.

    Raises ValueError for http(s), which can be neither listed nor written, and what `normalize` raises.
    """
    if is_http(uri):
        raise ValueError(f"{redact(uri)}: {ONLY_READ}")
    return normalize(uri)


def normalize_places(config: object, *names: str) -> None:
    """Replaces the fields `names` of a configuration, frozen or not, by their `place`. Leaves None and ""."""
    for name in names:
        if uri := getattr(config, name):
            object.__setattr__(config, name, place(uri))


def _absolute(path: str) -> str:
    return os.path.abspath(path)  # noqa: PTH100  Path.resolve() would resolve links


def join(base: str, *parts: str) -> str:
    """`base/part/part`, with exactly one slash between parts."""
    return "/".join([base.rstrip("/"), *(part.strip("/") for part in parts)])


def redact(uri: str) -> str:
    """`uri` without `user:password@`, and for http(s) without query and fragment; for logs, errors and tables."""
    if not scheme(uri):
        return uri
    return _QUERY.sub(r"\1", _USERINFO.sub("", uri, count=1))


def redact_text(text: str, uri: str = "") -> str:
    """A library's or server's `text` on one line, without credentials, signatures and queries of URLs.

    Also removes, anywhere in it, this process's secrets and those in `uri`, the URI that the text is about.
    """
    line = without_secrets(" ".join(text.split()), uri)
    return _PROOF.sub(r"\1…", _HTTP_QUERY.sub(r"\1", _USERINFO.sub("", line)))
