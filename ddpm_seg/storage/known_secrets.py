"""Removes secret values from text: credentials that this process knows, and a URL's query and user info.

A server may repeat what it was sent in any form, so this searches for the values themselves.
"""

from __future__ import annotations

import base64
import configparser
import functools
import netrc
import os
import re
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qsl, quote, quote_plus, unquote, unquote_plus, urlsplit

_SECRET_NAME = re.compile(
    r"TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|ACCESS_KEY|API_?KEY|PRIVATE_KEY|ACCOUNT_KEY|CREDENTIAL|SIGNATURE|SAS",
    re.IGNORECASE,
)
_PATH_NAME = re.compile(r"_(FILE|PATH|DIR|URI|URL|APPLICATION_CREDENTIALS)$", re.IGNORECASE)  # names a secret's file
# Shorter values could be ordinary words of a message. Values that a URL itself calls secret may be shorter.
_SHORTEST = 6
_SHORTEST_IN_URL = 4
_SHORTEST_NAMED = 3


def without_secrets(text: str, uri: str = "") -> str:
    """`text` with each known secret replaced by `…`, both plain and as it is encoded in URLs and headers."""
    found = {spelling for secret in (*_of_process(), *_of_uri(uri)) for spelling in _spellings(secret)}
    if not found:
        return text
    # The longest first: a secret may be part of another one's spelling.
    pattern = "|".join(re.escape(each) for each in sorted(found, key=len, reverse=True))
    return re.sub(pattern, "…", text, flags=re.IGNORECASE)


def _of_uri(uri: str) -> Iterator[str]:
    try:
        parts = urlsplit(uri)
    except ValueError:
        return
    userinfo, at, _ = parts.netloc.rpartition("@")
    if at:
        user, _, password = userinfo.partition(":")
        yield from (each for each in (userinfo, password, user) if len(each) >= _SHORTEST_NAMED)
        yield base64.b64encode(unquote(userinfo).encode("utf-8", "surrogateescape")).decode()
    for part in (parts.query, parts.fragment):
        if parts.scheme.lower() not in ("http", "https") or not part:
            continue
        if len(part) >= _SHORTEST_IN_URL:
            yield part
        # Some servers read "+" as a space, others as itself.
        for name, value in (*parse_qsl(part), *parse_qsl(part.replace("+", "%2B"))):
            if len(value) >= (_SHORTEST_NAMED if _SECRET_NAME.search(name) else _SHORTEST_IN_URL):
                yield value


def _of_process() -> frozenset[str]:
    return _of_environment(tuple(sorted(_environment().items()))) | _of_aws_file() | _of_netrc()


def _environment() -> dict[str, str]:
    secret = (name for name in os.environ if _SECRET_NAME.search(name) and not _PATH_NAME.search(name))
    named = {name: os.environ[name] for name in secret}
    return {**named, **{f"{name}_proxy": url for name, url in urllib.request.getproxies().items()}}


@functools.lru_cache(maxsize=4)
def _of_environment(values: tuple[tuple[str, str], ...]) -> frozenset[str]:
    proxies = {value for name, value in values if name.endswith("_proxy")}
    secrets = {value for name, value in values if not name.endswith("_proxy") and len(value) >= _SHORTEST}
    return frozenset(secrets.union(*(_of_uri(proxy) for proxy in proxies)))


@functools.cache
def _of_aws_file() -> frozenset[str]:
    """The secret values in `~/.aws/credentials`."""
    path = os.environ.get("AWS_SHARED_CREDENTIALS_FILE") or str(Path("~/.aws/credentials").expanduser())
    parser = configparser.RawConfigParser()
    try:
        parser.read(path)
    except (OSError, ValueError, configparser.Error):
        return frozenset()
    values = [
        value for section in parser.sections() for name, value in parser.items(section) if name.startswith("aws_")
    ]
    return frozenset(value for value in values if len(value) >= _SHORTEST)


@functools.cache
def _of_netrc() -> frozenset[str]:
    """The passwords in `~/.netrc`, which http(s) clients use."""
    try:
        hosts = netrc.netrc(os.environ.get("NETRC")).hosts.values()
    except (OSError, ValueError, netrc.NetrcParseError):
        return frozenset()
    return frozenset(password for _, _, password in hosts if password and len(password) >= _SHORTEST_NAMED)


def _spellings(secret: str) -> set[str]:
    plain = {secret, unquote(secret), unquote_plus(secret)}
    plain |= {" ".join(each.split()) for each in plain}
    quoted = (way(each) for each in plain for way in (quote, quote_plus, lambda text: quote(text, safe="")))
    return (plain | set(quoted)) - {""}
