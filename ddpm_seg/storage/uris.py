"""Names of files: a local path, `s3://…`, `https://…`; how each is spelled, and how it is shown to people.

Local paths are plain absolute paths, taken literally: no `~`, no `%20`, no `::`, whatever characters a name has (names
that are not UTF-8 are Python strings with surrogate escapes). Nothing that is shown has a credential in it.
"""

from __future__ import annotations

import os
import re
from urllib.parse import unquote

from ddpm_seg.storage.known_secrets import without_secrets

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
# `user:password@` before the host. The second form is a secret with a bare "/" in it, as AWS secret keys often have:
# what follows the colon is no port.
# Amazon's names of things (`arn:aws:s3:…`) have colons too, and stand in the bucket's place.
_USERINFO = re.compile(r"(?<=://)(?!arn:)(?:[^/?#\s]*@|[^/?#@:\[\s]*:(?!\d*(?:[/?#\s]|$))[^@\s]*@)")
_HTTP_QUERY = re.compile(r"(https?://[^\s?#'\"]*)[?#][^\s'\"]*", re.IGNORECASE)
# What proves who asks: a server's or a proxy's answer may quote the whole request.
_PROOF = re.compile(
    r"([\w-]*(?:x-amz-|authorization|signature|credential|signedheaders|accesskeyid|secret|token|password)[\w-]*"
    r"['\"]?\s*[=:>]\s*['\"]?)((?:basic|bearer|aws|aws4-hmac-sha256)\s+)?[^\s,&'\"<>]+",
    re.IGNORECASE,
)


def scheme(uri: str) -> str:
    """`s3` of `s3://bucket/key`; empty for a plain path."""
    match = _SCHEME.match(uri)
    return match[1].lower() if match else ""


def is_http(uri: str) -> bool:
    return scheme(uri) in ("http", "https")


def is_local(uri: str) -> bool:
    """Whether `uri` is a path (or a `file://` URI) of this machine."""
    return scheme(uri) in ("", "file")


def normalize(uri: str) -> str:
    """The one spelling of a URI: local and `file://` to an absolute path, remote as it is, without a trailing slash.

    `file://` URIs are percent-decoded (`Path.as_uri` encodes), plain paths are not. Raises ValueError for an empty name
    and for credentials in any but an http(s) URI.
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
        raise ValueError(f"{redact(uri)}: credentials do not belong in a URI; set them in the environment")
    return uri.rstrip("/")


ONLY_READ = "http(s) can be read, file by file, but neither listed nor written"


def place(uri: str) -> str:
    """`normalize` of a folder or prefix that is written to or listed. It has no credentials: it may be shown as it is.

    Raises ValueError for http(s), where neither can be done.
    """
    if is_http(uri):
        raise ValueError(f"{redact(uri)}: {ONLY_READ}")
    return normalize(uri)


def normalize_places(config: object, *names: str) -> None:
    """Gives these fields of a new configuration, frozen or not, their one spelling (`place`). None and "" are left."""
    for name in names:
        if uri := getattr(config, name):
            object.__setattr__(config, name, place(uri))


def _absolute(path: str) -> str:
    return os.path.abspath(path)  # noqa: PTH100  Path.resolve() would replace links by what they lead to


def join(base: str, *parts: str) -> str:
    """`base/part/part`, with one slash between them."""
    return "/".join([base.rstrip("/"), *(part.strip("/") for part in parts)])


def redact(uri: str) -> str:
    """`uri` for a log, an error or a table: without `user:password@`, and without query or fragment for http(s)."""
    if not scheme(uri):
        return uri
    return re.sub(r"^(https?://[^?#]*)[?#].*", r"\1", _USERINFO.sub("", uri, count=1), flags=re.DOTALL | re.IGNORECASE)


def redact_text(text: str, uri: str = "") -> str:
    """What a library or a server said, on one line, without credentials, queries of URLs and signatures.

    Left out too, wherever they stand, are the secrets of this process and those in `uri`, which the text is about.
    """
    line = without_secrets(" ".join(text.split()), uri)
    return _PROOF.sub(r"\1…", _HTTP_QUERY.sub(r"\1", _USERINFO.sub("", line)))
