"""Turns storage errors into one line without credentials, and decides whether an error may pass by itself."""

from __future__ import annotations

import errno
import os
import socket
import ssl
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from ddpm_seg.storage.quoted_content import without_content
from ddpm_seg.storage.uris import redact, redact_text, scheme

# S3 error codes that mean "try again later", although their HTTP status otherwise means a wrong request.
_LATER_CODES = ("SlowDown", "Throttling", "RequestTimeout", "ConditionalRequestConflict")
_LATER_STATUSES = (408, 425, 429)
_NEVER_STATUSES = (501, 505, 507)  # not implemented, HTTP version, disk full; all other statuses from 500 on may pass
_MAX_TEXT = 500
_S3_REMEDY = "; check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY (or the role) and the bucket's policy"
_ARCHIVED_REMEDY = "; the object is archived: restore it first"
# S3 error codes for credentials that have expired or are wrong, whichever object they ask for.
_CREDENTIALS_CODES = (
    *("ExpiredToken", "ExpiredTokenException", "InvalidAccessKeyId", "InvalidClientTokenId", "InvalidSecurity"),
    *("InvalidToken", "NotSignedUp", "RequestExpired", "RequestTimeTooSkewed", "SignatureDoesNotMatch"),
    "TokenRefreshRequired",
)
_CREDENTIALS_REMEDY = (
    "; check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN (or the role), which may have expired, "
    "and this machine's clock"
)


class StorageError(OSError):
    """Storage cannot be used as requested. The message is one line without credentials."""


class StorageUnavailableError(StorageError):
    """Storage kept failing while the request was retried; the same request may succeed later."""


class CredentialsError(StorageUnavailableError):
    """The store does not accept this process's credentials, or there are none; with others the request may succeed."""


class LocalHostError(PermissionError):
    """A URI from a list leads to this machine or to a link-local service, which lists must not name."""


@contextmanager
def clear_errors(uri: str) -> Iterator[None]:
    """Turns errors of s3fs, botocore and aiohttp, which may quote signed URLs, into OSErrors with the redacted URI."""
    try:
        yield
    except StorageError:
        raise
    except FileNotFoundError as error:
        reason = "the bucket does not exist" if _answer(error)[1] == "NoSuchBucket" else os.strerror(errno.ENOENT)
        raise FileNotFoundError(errno.ENOENT, reason, redact(uri)) from None
    except Exception as error:  # a URI from a list may lead to any client library, which may raise anything
        if isinstance(error, ValueError) and not isinstance(error, _failures()):
            raise
        refusal = next((link for link in _chain(error) if isinstance(link, LocalHostError)), None)
        if refusal is not None:
            raise PermissionError(errno.EACCES, refusal.strerror, redact(uri)) from None
        refused = f"access was refused ({describe(error, uri)})"
        if _is_about_credentials(error):
            raise CredentialsError(f"{redact(uri)}: {refused}{_CREDENTIALS_REMEDY}") from None
        if isinstance(error, PermissionError) or status_of(error) in (401, 403):
            raise PermissionError(errno.EACCES, refused + _remedy(error, uri), redact(uri)) from None
        raise StorageError(f"{redact(uri)}: {describe(error, uri)}") from None


def may_pass(error: BaseException) -> bool:
    """Whether the same request may succeed a little later: the server is overloaded, restarting or unreachable."""
    if isinstance(error, StorageError | FileNotFoundError | FileExistsError | PermissionError):
        return False
    if any(isinstance(link, LocalHostError) for link in _chain(error)):
        return False
    status, code = _answer(error)
    if status is not None:
        return code in _LATER_CODES or status in _LATER_STATUSES or (status >= 500 and status not in _NEVER_STATUSES)
    for link in _chain(error):
        # An untrusted certificate or an unknown host: waiting does not help.
        if isinstance(link, ssl.SSLError) or (isinstance(link, socket.gaierror) and link.errno == socket.EAI_NONAME):
            return False
    return any(isinstance(link, _broken_connections()) for link in _chain(error))


def asks_to_slow_down(error: BaseException) -> bool:
    """Whether the server answered that it gets too many requests."""
    status, code = _answer(error)
    return status in (429, 503) or code in ("SlowDown", "Throttling")


def status_of(error: BaseException) -> int | None:
    """The HTTP status that the server answered with; None if it did not answer."""
    return _answer(error)[0]


def describe(error: BaseException, uri: str = "") -> str:
    """The server's answer or the error, as one line without secrets or bytes of a file.

    `uri` is the URI of the request: its secrets are removed too, as a server may repeat them.
    """
    status, code = _answer(error)
    # str() of an aiohttp error quotes the whole URL; its `message` is only the server's.
    text = str(getattr(error, "message", "") or getattr(error, "strerror", "") or error or "")
    text = redact_text(without_content(text[: 10 * _MAX_TEXT]), uri) or type(error).__name__
    if status is not None:
        text = " ".join(dict.fromkeys(part for part in (f"HTTP {status}", code, text) if part and part != str(status)))
    return text if len(text) <= _MAX_TEXT else text[:_MAX_TEXT] + "…"


def _is_about_credentials(error: BaseException) -> bool:
    names = (
        *("CredentialRetrievalError", "NoCredentialsError", "PartialCredentialsError", "SSOError"),
        "TokenRetrievalError",
    )
    kinds = _loaded(*(("botocore.exceptions", name) for name in names))
    return isinstance(error, kinds) or _answer(error)[1] in _CREDENTIALS_CODES


def _remedy(error: BaseException, uri: str) -> str:
    """What to do about a refusal, where we know it."""
    code = _answer(error)[1]
    if code == "InvalidObjectState":
        return _ARCHIVED_REMEDY
    # An answer to a HEAD request has only the status.
    return _S3_REMEDY if scheme(uri) in ("s3", "s3a") and code in ("AccessDenied", "403", "") else ""


def _answer(error: BaseException) -> tuple[int | None, str]:
    """HTTP status and S3 error code of a server's answer; (None, "") without one.

    Searches the chain of causes, because s3fs raises an OSError in place of botocore's error, which has the answer.
    """
    for link in _chain(error):
        if isinstance(link, _broken_connections()):  # the rest of the chain is about earlier requests
            break
        response = getattr(link, "response", None)
        if isinstance(response, dict):
            return response["ResponseMetadata"]["HTTPStatusCode"], str(response.get("Error", {}).get("Code", ""))
        status = getattr(link, "status", None)
        if isinstance(status, int):
            return status, ""
    return None, ""


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error, its cause, the cause of that, and so on."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _failures() -> tuple[type[BaseException], ...]:
    """OSError and the base classes of the other errors that client libraries raise."""
    return OSError, *_loaded(
        ("botocore.exceptions", "BotoCoreError"),
        ("botocore.exceptions", "ClientError"),
        ("botocore.parsers", "ResponseParserError"),
        ("aiohttp", "ClientError"),
        ("asyncio", "TimeoutError"),  # not an OSError before Python 3.11
    )


def _broken_connections() -> tuple[type[BaseException], ...]:
    """Errors of client libraries for time-outs, refused, reset and lost connections, and incomplete answers."""
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
    """The classes among `names` whose modules are imported; the others' errors cannot have been raised.

    A module that another thread is importing right now may not have its classes yet.
    """
    found = (getattr(sys.modules.get(module), name, None) for module, name in names)
    return tuple(each for each in found if each is not None)
