"""Which failed jobs submit.py repeats, tested against a stand-in for the Kubernetes API.

No Kubernetes can be started here. The stand-in answers over TLS as the API does, and KubeRay's part, what becomes of a
RayJob, is a list; its messages are those of Ray 2.60 and KubeRay 1.5.
"""

from __future__ import annotations

import importlib.util
import json
import ssl
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

CLUSTER = Path(__file__).parents[2] / "cluster"
specification = importlib.util.spec_from_file_location("submit", CLUSTER / "submit.py")
assert specification is not None
assert specification.loader is not None
script = importlib.util.module_from_spec(specification)
specification.loader.exec_module(script)
PATH = "/apis/ray.io/v1/namespaces/labelling/rayjobs"


@dataclass
class Api:
    """What was asked of it, and what it answers."""

    fates: list[dict[str, str]] = field(default_factory=list)
    """Of each RayJob in turn, its status in the end; before, it is asked for twice and still running."""
    refusal: int | None = None
    faults: list[int] = field(default_factory=list)
    """Statuses of the first answers."""
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    asked: dict[str, int] = field(default_factory=dict)

    def answer(self, verb: str, path: str, token: str, content: Any) -> tuple[int, Any]:
        if token != "Bearer the-token":
            return 401, {}
        if self.faults:
            return self.faults.pop(0), {}
        if self.refusal is not None:
            return self.refusal, {"message": "rayjobs.ray.io is forbidden"}
        if verb == "POST" and path == PATH:
            name = content["metadata"]["name"]
            if name in self.jobs:
                return 409, {}
            self.jobs[name] = content
            return 201, content
        name = path.removeprefix(f"{PATH}/")
        self.asked[name] = self.asked.get(name, 0) + 1
        if self.asked[name] <= 2:
            return 200, {"status": {"jobDeploymentStatus": "Running"} if self.asked[name] == 2 else None}
        return 200, {"status": self.fates[list(self.jobs).index(name)]}


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    certificate, key = tmp_path / "ca.crt", tmp_path / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=kubernetes",
         "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    (tmp_path / "token").write_text("the-token\n")
    (tmp_path / "namespace").write_text("labelling")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._do(None)

        def do_POST(self) -> None:
            self._do(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

        def _do(self, content: Any) -> None:
            status, answer = found.answer(self.command, self.path, self.headers["Authorization"], content)
            data = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    own = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(server.server_port)}
    for name, value in {**own, "JOB_NAME": "night"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(script, "ACCOUNT", tmp_path)
    monkeypatch.setattr(script, "POLL_SECONDS", 0.01)
    found = Api()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield found
    server.shutdown()
    server.server_close()


def submit() -> int:
    return script.main(str(CLUSTER / "rayjob-label.yaml"))


DONE = {"jobDeploymentStatus": "Complete", "jobStatus": "SUCCEEDED"}
LOST = {"jobDeploymentStatus": "Failed", "reason": "SubmissionFailed", "message": "Ray head pod not found."}


def failed(status: int) -> dict[str, str]:
    log = "last available logs (truncated to 20,000 chars):\nan image says: failed with exit code 2,"
    message = f"Job entrypoint command failed with exit code {status}, {log}"
    return {"jobDeploymentStatus": "Failed", "jobStatus": "FAILED", "reason": "AppFailed", "message": message}


@pytest.mark.parametrize("status", [2, 3, 5])
def test_what_would_fail_again_is_not_repeated(api: Api, status: int) -> None:
    api.fates = [failed(status)]
    assert submit() == status
    assert list(api.jobs) == ["night-1"]


@pytest.mark.parametrize("fate", [failed(4), failed(137), LOST])
def test_what_was_interrupted_goes_on_in_a_new_cluster(api: Api, fate: dict[str, str]) -> None:
    api.fates = [fate, DONE]
    assert submit() == 0
    assert list(api.jobs) == ["night-1", "night-2"]
    assert api.jobs["night-2"]["spec"]["rayClusterSpec"]["authOptions"] == {"mode": "token"}


def test_three_clusters_are_enough(api: Api) -> None:
    api.fates = [failed(4), LOST, failed(4), DONE]
    assert submit() == 4
    assert len(api.jobs) == 3


def test_a_night_without_end_is_not_begun_anew(api: Api) -> None:
    api.fates = [{"jobDeploymentStatus": "Failed", "reason": "DeadlineExceeded", "message": "has passed"}, DONE]
    assert submit() == 4
    assert list(api.jobs) == ["night-1"]


def test_a_rayjob_that_kuberay_refuses_is_wrong_use(api: Api, capsys: pytest.CaptureFixture[str]) -> None:
    api.fates = [{"jobDeploymentStatus": "ValidationFailed", "message": "name too long"}]
    assert submit() == 2
    assert "name too long" in capsys.readouterr().out


def test_a_submitter_that_was_evicted_goes_on_watching(api: Api) -> None:
    api.jobs["night-1"], api.fates = {}, [DONE]
    assert submit() == 0
    assert list(api.jobs) == ["night-1"]


def test_an_api_that_is_away_is_waited_for(api: Api) -> None:
    api.faults, api.fates = [503, 500, 429], [DONE]
    assert submit() == 0


def test_a_refusal_is_said_and_not_waited_for(api: Api, capsys: pytest.CaptureFixture[str]) -> None:
    api.refusal = 403
    assert submit() == 1
    said = capsys.readouterr().err
    assert "Kubernetes refuses: 403" in said
    assert "the-token" not in said
