"""What goes wrong with storage: told in one line without credentials, and whether it may pass by itself."""

from __future__ import annotations

import errno
import os
import socket
import ssl
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from ddpm_seg.printable import without_content
from ddpm_seg.storage.uris import redact, redact_text, scheme

# S3's codes for "later, please" that come with statuses which otherwise mean that the request is wrong.
_LATER_CODES = ("SlowDown", "Throttling", "RequestTimeout", "ConditionalRequestConflict")
_LATER_STATUSES = (408, 425, 429)
_NEVER_STATUSES = (501, 505, 507)  # "not implemented", "HTTP version", "the disk is full": the rest over 500 may pass
_MAX_TEXT = 500
_S3_REMEDY = "; check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY (or the role) and the bucket's policy"


class StorageError(OSError):
    """Storage that cannot be used as asked; the message is one line, with no credentials in it."""


class StorageUnavailableError(StorageError):
    """Storage that went on failing for as long as it was asked; later the same request may succeed."""


class LocalHostError(PermissionError):
    """A name out of a list leads to this machine or to a link-local service, which lists may not name."""


@contextmanager
def clear_errors(uri: str) -> Iterator[None]:
    """Errors of s3fs, botocore and aiohttp as OSErrors that name the redacted URI; the originals quote signed URLs."""
    try:
        yield
    except StorageError:
        raise
    except FileNotFoundError as error:
        reason = "the bucket does not exist" if _answer(error)[1] == "NoSuchBucket" else os.strerror(errno.ENOENT)
        raise FileNotFoundError(errno.ENOENT, reason, redact(uri)) from None
    except Exception as error:  # a name from a list may lead to any client library, and into any corner of it
        if isinstance(error, ValueError) and not isinstance(error, _failures()):
            raise
        refusal = next((link for link in _chain(error) if isinstance(link, LocalHostError)), None)
        if refusal is not None:
            raise PermissionError(errno.EACCES, refusal.strerror, redact(uri)) from None
        if _is_refusal(error):
            remedy = _S3_REMEDY if scheme(uri) in ("s3", "s3a") else ""
            raise PermissionError(
                errno.EACCES, f"access was refused ({describe(error, uri)}){remedy}", redact(uri)
            ) from None
        raise StorageError(f"{redact(uri)}: {describe(error, uri)}") from None


def may_pass(error: BaseException) -> bool:
    """Whether the same request may succeed a little later: the server is overloaded, restarting or out of reach."""
    if isinstance(error, StorageError | FileNotFoundError | FileExistsError | PermissionError):
        return False
    if any(isinstance(link, LocalHostError) for link in _chain(error)):
        return False
    status, code = _answer(error)
    if status is not None:
        return code in _LATER_CODES or status in _LATER_STATUSES or (status >= 500 and status not in _NEVER_STATUSES)
    for link in _chain(error):
        # A certificate that is not trusted, or no such host: nothing that waiting would mend.
        if isinstance(link, ssl.SSLError) or (isinstance(link, socket.gaierror) and link.errno == socket.EAI_NONAME):
            return False
    return any(isinstance(link, _broken_connections()) for link in _chain(error))


def status_of(error: BaseException) -> int | None:
    """The HTTP status that a server answered with, if it answered at all."""
    return _answer(error)[0]


def describe(error: BaseException, uri: str = "") -> str:
    """What was answered or what happened, on one line, with nothing secret and no bytes of a file in it.

    `uri` is what was asked for; a server may repeat its query.
    """
    status, code = _answer(error)
    # aiohttp's own text quotes the whole URL, its message is the server's.
    text = str(getattr(error, "message", "") or getattr(error, "strerror", "") or error or "")
    text = redact_text(without_content(text[: 10 * _MAX_TEXT]), uri) or type(error).__name__
    if status is not None:
        text = " ".join(dict.fromkeys(part for part in (f"HTTP {status}", code, text) if part and part != str(status)))
    return text if len(text) <= _MAX_TEXT else text[:_MAX_TEXT] + "…"


def _is_refusal(error: BaseException) -> bool:
    refused: tuple[type[BaseException], ...] = (
        PermissionError,
        *_loaded(("botocore.exceptions", "NoCredentialsError")),
    )
    return isinstance(error, refused) or status_of(error) in (401, 403)


def _answer(error: BaseException) -> tuple[int | None, str]:
    """A server's answer, as HTTP status and S3's code; s3fs hides botocore's error, which has it, behind an OSError."""
    for link in _chain(error):
        if isinstance(link, _broken_connections()):  # what follows in the chain is older than this
            break
        response = getattr(link, "response", None)
        if isinstance(response, dict):
            return response["ResponseMetadata"]["HTTPStatusCode"], str(response.get("Error", {}).get("Code", ""))
        status = getattr(link, "status", None)
        if isinstance(status, int):
            return status, ""
    return None, ""


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error and what caused it, and so on."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _failures() -> tuple[type[BaseException], ...]:
    """OSError, and the base classes of what the client libraries raise beside it."""
    return OSError, *_loaded(
        ("botocore.exceptions", "BotoCoreError"),
        ("botocore.exceptions", "ClientError"),
        ("botocore.parsers", "ResponseParserError"),
        ("aiohttp", "ClientError"),
        ("asyncio", "TimeoutError"),  # no OSError before Python 3.11
    )


def _broken_connections() -> tuple[type[BaseException], ...]:
    """What the client libraries raise for time-outs, refused, reset and lost connections, and answers cut short."""
    return (
        ConnectionError,
        TimeoutError,
        *_loaded(
            ("botocore.exceptions", "HTTPClientError"),
            ("botocore.exceptions", "ConnectionError"),
            ("botocore.exceptions", "IncompleteReadError"),
            ("botocore.parsers", "ResponseParserError"),
            ("aiohttp", "ClientConnectionError"),
            ("aiohttp", "ClientPayloadError"),
            ("asyncio", "TimeoutError"),
        ),
    )


def _loaded(*names: tuple[str, str]) -> tuple[type[BaseException], ...]:
    """Those classes whose modules are imported: an error of any other cannot have been raised.

    Another thread may be importing a module just now, which then has not got its classes yet.
    """
    found = (getattr(sys.modules.get(module), name, None) for module, name in names)
    return tuple(each for each in found if each is not None)
