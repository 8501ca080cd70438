from __future__ import annotations

import base64
import random
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest

from ddpm_seg import storage
from ddpm_seg.storage import hosts, known_secrets
from ddpm_seg.storage.known_secrets import without_secrets
from ddpm_seg.storage.uris import redact_text
from tests.web_server import web_server

TEXTS = ["no key called {}", "({})", "x{}y", "<m>{}</m>", "sent: {}; again: {}", "{}"]


@pytest.mark.parametrize("seed", range(60))
def test_a_secret_that_is_repeated_bare_is_left_out(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(seed)
    secrets = ["".join(rng.choices("abcXYZ0189+/=-_.~% &", k=rng.randint(8, 60))) for _ in range(6)]
    uri = f"https://user:{quote(secrets[0], safe='')}@host/x.png?sig={quote(secrets[1], safe='')}&v={secrets[2][:2]}"
    names = ["AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "HF_TOKEN", "AZURE_STORAGE_ACCOUNT_KEY"]
    for name, secret in zip(names, secrets[2:], strict=True):
        monkeypatch.setenv(name, secret)
    for secret in secrets:
        spelling = rng.choice([str, lambda text: quote(text, safe=""), quote, quote_plus, str.lower])(secret)
        text = rng.choice(TEXTS).replace("{}", spelling)
        assert spelling.strip() not in redact_text(text, uri), (secret, text)


def test_basic_authorization_is_a_spelling_of_the_user_info() -> None:
    proof = base64.b64encode(b"user:hunter2").decode()
    assert without_secrets(f"you sent {proof}", "https://user:hunter2@host/x") == "you sent …"


def test_passwords_of_files_are_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "netrc").write_text("machine host login me password netrcs-own\n")
    (tmp_path / "aws").write_text("[default]\naws_access_key_id = AKFILE12\naws_secret_access_key = files/own+secret\n")
    (tmp_path / "netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "aws"))
    for cached in (known_secrets._of_netrc, known_secrets._of_aws_file):
        cached.cache_clear()
    try:
        text = "AKFILE12 and files%2Fown%2Bsecret and netrcs-own"
        assert without_secrets(text) == "… and … and …"
    finally:
        for cached in (known_secrets._of_netrc, known_secrets._of_aws_file):
            cached.cache_clear()


def test_what_is_no_secret_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", "/var/run/token")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    text = "HTTP 404 at /var/run/token is disabled: page 1 of 20"
    assert without_secrets(text, "https://host/x.png?page=1&of=20") == text


def test_a_server_that_repeats_its_request_gives_nothing_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hosts, "_allowed", True)
    monkeypatch.setenv("HF_TOKEN", "hf_planted_in_the_environment")
    with web_server() as web:
        web.refusals["/x.png"] = "sAs12/x is not hf_planted_in_the_environment nor dXNlcjpodW50ZXIy of hunter2"
        uri = web.url.replace("://", "://user:hunter2@") + "/x.png?key=sAs12%2Fx"
        with pytest.raises(PermissionError) as caught:
            storage.read_listed(uri, max_bytes=100)
    assert "… is not … nor … of …" in str(caught.value)
