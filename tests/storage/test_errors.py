from __future__ import annotations

import asyncio
import random
import re
import socket
import ssl
import traceback
from collections.abc import Callable

import aiohttp
import pytest
from botocore import exceptions

from ddpm_seg import storage
from ddpm_seg.storage import stores
from ddpm_seg.storage.errors import clear_errors, describe, may_pass
from ddpm_seg.storage.uris import redact_text
from tests.faulty_s3 import faulty_s3
from tests.seaweedfs import ACCESS_KEY, S3Server


def answered(status: int, code: str = "", text: str = "text") -> exceptions.ClientError:
    response = {"Error": {"Code": code, "Message": text}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return exceptions.ClientError(response, "GetObject")


def caused(error: BaseException, cause: BaseException) -> BaseException:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        *((answered(status), True) for status in (408, 429, 500, 502, 503, 504, 599)),
        *((answered(status), False) for status in (301, 400, 401, 403, 404, 409, 412, 416, 501, 507)),
        *((answered(400, code), True) for code in ("RequestTimeout", "SlowDown")),
        (answered(409, "ConditionalRequestConflict"), True),
        (caused(OSError(5, "text"), answered(503, "SlowDown")), True),
        (caused(OSError(22, "text"), answered(412, "PreconditionFailed")), False),
        (caused(exceptions.ReadTimeoutError(endpoint_url="x"), answered(412)), True),  # the older answer is no answer
        (exceptions.EndpointConnectionError(endpoint_url="x"), True),
        (caused(exceptions.EndpointConnectionError(endpoint_url="x"), socket.gaierror(socket.EAI_NONAME, "x")), False),
        (caused(exceptions.EndpointConnectionError(endpoint_url="x"), socket.gaierror(socket.EAI_AGAIN, "x")), True),
        (caused(exceptions.SSLError(endpoint_url="x", error="x"), ssl.SSLCertVerificationError("x")), False),
        (exceptions.IncompleteReadError(actual_bytes=1, expected_bytes=2), True),
        (exceptions.NoCredentialsError(), False),
        (aiohttp.ClientPayloadError("x"), True),
        (aiohttp.ServerDisconnectedError(), True),
        (aiohttp.InvalidURL("x"), False),
        (asyncio.TimeoutError(), True),
        (ConnectionResetError(), True),
        (FileNotFoundError(), False),
        (PermissionError(), False),
        (OSError(28, "No space left on device"), False),
        (ValueError(), False),
        (KeyboardInterrupt(), False),
    ],
)
def test_only_what_may_pass_is_waited_for(error: BaseException, passes: bool) -> None:
    assert may_pass(error) is passes


OURS = ("ExpiredToken", "InvalidToken", "InvalidAccessKeyId", "SignatureDoesNotMatch", "RequestTimeTooSkewed")


@pytest.mark.parametrize(
    ("error", "kind", "remedy"),
    [
        *((answered(400, code), storage.CredentialsError, "may have expired") for code in OURS),
        (caused(PermissionError("text"), answered(403, "InvalidAccessKeyId")), storage.CredentialsError, "clock"),
        (exceptions.NoCredentialsError(), storage.CredentialsError, "check AWS_ACCESS_KEY_ID"),
        (exceptions.UnauthorizedSSOTokenError(), storage.CredentialsError, "check AWS_ACCESS_KEY_ID"),
        (answered(403, "AccessDenied"), PermissionError, "check AWS_ACCESS_KEY_ID"),
        (answered(403, "403"), PermissionError, "check AWS_ACCESS_KEY_ID"),
        (answered(403, "InvalidObjectState"), PermissionError, "restore it"),
        (answered(403, "AllAccessDisabled"), PermissionError, None),
        (answered(400, "KMS.DisabledException"), storage.StorageError, None),
    ],
)
def test_credentials_are_at_fault_for_all_objects_and_a_refusal_for_one(
    error: BaseException, kind: type[OSError], remedy: str | None
) -> None:
    with pytest.raises(kind) as caught, clear_errors("s3://b/x"):
        raise error
    assert isinstance(caught.value, storage.StorageUnavailableError) is (kind is storage.CredentialsError)
    assert "s3://b/x" in str(caught.value)
    for words in ("may have expired", "check AWS_ACCESS_KEY_ID", "restore it"):
        asked = words == remedy or (kind is storage.CredentialsError and words != "restore it")
        assert (words in str(caught.value)) is asked


QUOTES = [
    "Cannot connect to https://user:{}@host/x?sig={}",
    "for url: http://host/x?X-Amz-Signature={}&X-Amz-Credential={}%2F20250101",
    "<Error><AWSAccessKeyId>{}</AWSAccessKeyId><SignatureProvided>{}</SignatureProvided></Error>",
    "GET /x?X-Amz-Security-Token={}&x=1 Authorization: AWS4-HMAC-SHA256 Credential={}/s3/aws4_request, Signature={}",
    "{{'Authorization': 'Basic {}', 'x-amz-content-sha256': '{}'}}",
    '{{"secret_key": "{}", "session_token":"{}", "password" : "{}"}}',
    "Proxy-Authorization: Bearer {}\nX-Amz-Date: {}",
]


@pytest.mark.parametrize("seed", range(50))
def test_no_quoted_request_gives_away_a_secret(seed: int) -> None:
    rng = random.Random(seed)
    secrets = ["K" + "".join(rng.choices("abcXYZ0189+/=-_.~%", k=rng.randint(8, 60))) for _ in range(4)]
    quote = rng.choice(QUOTES)
    quote = quote.format(*(rng.choice(secrets) for _ in range(quote.count("{}"))))
    text = " ".join(rng.sample(["some words", quote, "other words"], 3)).replace(" ", rng.choice([" ", "\n", "\t  "]))
    errors = (OSError(5, text), exceptions.HTTPClientError(error=text), answered(503, text=text))
    for said in (redact_text(text), *map(describe, errors)):
        assert not any(secret in said for secret in secrets)
        assert "some words" in said
        assert "\n" not in said
        assert len(said) < 600
    for error in errors:
        with (
            pytest.raises(OSError, match="host/x") as caught,
            clear_errors(f"https://user:{secrets[0]}@host/x?{secrets[1]}"),
        ):
            raise error
        printed = "".join(traceback.format_exception(caught.value)) + repr(caught.value) + repr(vars(caught.value))
        assert not any(secret in printed for secret in secrets)


def test_a_server_that_quotes_the_request_gives_nothing_away(
    s3_endpoint: S3Server, s3: Callable[[], str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    root = s3()
    stores._open_filesystem.cache_clear()
    with faulty_s3(s3_endpoint.endpoint) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        proxy.fail("echo")
        calls: list[Callable[[], object]] = [
            lambda: storage.read_bytes(f"{root}/x", max_bytes=1),
            lambda: storage.write_bytes(f"{root}/x", b""),
            lambda: list(storage.list_files(root)),
            lambda: storage.check_writable(root),
        ]
        for call in calls:
            with pytest.raises(OSError, match="HTTP 403") as caught:
                call()
            shown = "".join(traceback.format_exception(caught.value)) + caplog.text
            assert "User-Agent" in shown  # it did quote the request
            assert ACCESS_KEY not in shown
            assert not re.search("[0-9a-f]{64}", shown)  # signatures
    stores._open_filesystem.cache_clear()
