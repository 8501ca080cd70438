"""Submits a RayJob and waits for its end. A Kubernetes CronJob runs this nightly, in the image of cluster/Dockerfile.

    JOB_NAME=NAME python cluster/submit.py rayjob-label.yaml

KubeRay's own `backoffLimit` would repeat every failure on a new cluster of GPU machines, although wrong use (status 2),
too many errors (3) and another process at the same run (5) would only fail again. So KubeRay does not repeat, and this
process makes a new RayJob after status 4 or a lost cluster, up to twice. It ends with the job's status. RayJobs are
called NAME-1, NAME-2 and NAME-3; restarted after an eviction, this process continues with the one that exists.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import ssl
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import yaml

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
ATTEMPTS, POLL_SECONDS = 3, 10.0
REFUSED, WRONG_USE, INTERRUPTED = 1, 2, 4
NOT_REPEATED = (2, 3, 5)


def main(manifest: str) -> int:
    try:
        return submit(manifest)
    except urllib.error.HTTPError as error:
        print(f"Kubernetes refuses: {error.code} {error.read(2000).decode(errors='replace')}", file=sys.stderr)
        return REFUSED


def submit(manifest: str) -> int:
    """Runs the RayJob, up to ATTEMPTS times; returns the last exit status. Raises HTTPError if Kubernetes refuses."""
    rayjob = yaml.safe_load(Path(manifest).read_text())
    for attempt in range(1, ATTEMPTS + 1):
        name = f"{os.environ['JOB_NAME']}-{attempt}"
        _create({**rayjob, "metadata": {"name": name}})
        status, again = _outcome(_ended(name))
        print(f"{name} ended with status {status}", flush=True)
        if not again:
            break
    return status


def _create(rayjob: dict[str, Any]) -> None:
    try:
        _ask("POST", "", rayjob)
    except urllib.error.HTTPError as error:
        if error.code != http.client.CONFLICT:  # it exists already if this process was evicted and restarted
            raise


def _ended(name: str) -> dict[str, Any]:
    """Waits until the RayJob has ended; returns its status."""
    while True:
        status: dict[str, Any] = _ask("GET", f"/{name}").get("status") or {}
        if status.get("jobDeploymentStatus") in ("Complete", "Failed", "ValidationFailed"):
            return status
        time.sleep(POLL_SECONDS)


def _outcome(status: dict[str, Any]) -> tuple[int, bool]:
    """The job's exit status, and whether another attempt may succeed."""
    if status.get("jobStatus") == "SUCCEEDED":
        return 0, False
    print(status.get("reason", ""), status.get("message", ""), flush=True)
    if status["jobDeploymentStatus"] == "ValidationFailed":
        return WRONG_USE, False
    said = re.match(r"Job entrypoint command failed with exit code (\d+)", status.get("message", ""))
    if said and int(said[1]) in NOT_REPEATED:
        return int(said[1]), False
    # Killed, interrupted, or the cluster is lost: try again, except if the job has used up its whole time.
    return INTERRUPTED, status.get("reason") != "DeadlineExceeded"


def _ask(verb: str, path: str, content: dict[str, Any] | None = None) -> dict[str, Any]:
    """The Kubernetes API server's answer. Asks again until there is one; raises HTTPError for a refusal."""
    host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"]
    host = f"[{host}]" if ":" in host else host
    namespace = (ACCOUNT / "namespace").read_text().strip()
    url = f"https://{host}:{port}/apis/ray.io/v1/namespaces/{namespace}/rayjobs{path}"
    trusted = ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt"))
    while True:
        # Read the token each time: the file is replaced every hour.
        token = (ACCOUNT / "token").read_text().strip()
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        data = json.dumps(content).encode() if content is not None else None
        request = urllib.request.Request(url, data, headers, method=verb)
        try:
            with urllib.request.urlopen(request, timeout=30, context=trusted) as answer:
                return dict(json.load(answer))
        except urllib.error.HTTPError as error:
            if error.code < 500 and error.code != http.client.TOO_MANY_REQUESTS:
                raise
            print(f"Kubernetes answers {error.code}; asking again", flush=True)
        except (OSError, ValueError, http.client.HTTPException) as error:
            print(f"Kubernetes does not answer ({error}); asking again", flush=True)
        time.sleep(POLL_SECONDS)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
