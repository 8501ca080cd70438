"""Fixtures for the whole session: things that take seconds to start and can be shared."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser

from ddpm_seg.model.published import state_dicts
from ddpm_seg.storage import stores
from tests.seaweedfs import S3Server, s3_server

# What has one of these takes seconds before its first test; tests that start Ray by themselves carry the marker.
SERVICES = {"browser", "ray_cluster", "s3_endpoint"}


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Bytes never make a test's name: they may differ from process to process (gzip writes the time into them), and
    xdist refuses processes whose tests have different names."""
    return argname if isinstance(val, bytes) else None


@pytest.hookimpl(tryfirst=True)  # before pytest deselects by marker
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if SERVICES.intersection(getattr(item, "fixturenames", ())):
            item.add_marker("services")


BEGUN = time.monotonic()

# On a slow machine CI leaves out the last of the slow tests, and names them, rather than be cut off without a word.
SLOW_MINUTES = float(os.environ.get("SLOW_TESTS_MINUTES", "inf"))


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("slow") and time.monotonic() - BEGUN > 60 * SLOW_MINUTES:
        pytest.skip(f"the {SLOW_MINUTES:g} minutes of SLOW_TESTS_MINUTES are over")
    if item.get_closest_marker("gpu"):
        import torch  # seconds, which sessions without such a test need not spend

        if not torch.cuda.is_available():
            pytest.skip("there is no CUDA GPU here")


@pytest.fixture(autouse=True, scope="module")
def own_log_level() -> Iterator[None]:
    """What a file's tests set by running a command in this process (`export` logs only warnings) ends with the file."""
    logger = logging.getLogger("ddpm_seg")
    level = logger.level
    yield
    logger.setLevel(level)


# Processes of tests beside each other: each has a folder for its own clusters, and takes one core.
if own := os.environ.get("PYTEST_XDIST_WORKER"):
    os.environ["RAY_TMPDIR"] = f"{tempfile.gettempdir()}/{own}"
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """One process per core, four at most, for folders of fast tests. Slow tests and those for a GPU measure memory and
    kill what they find, so they run one by one, and so does what prints (`-s`) or is a single file."""
    one_by_one = "not slow" not in config.option.markexpr or config.option.capture == "no"
    if one_by_one or all(Path(each.split("::")[0]).is_file() for each in config.args):
        return 0
    return min(4, len(os.sched_getaffinity(0)))


# Ray's workers are nice to others by default, and starve beside them on a busy machine.
os.environ.setdefault("RAY_worker_niceness", "0")

# A shell that runs the tests in the background has Ctrl-C ignored, and every process of a test would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[S3Server]:
    """An S3 server, in the environment until the session ends, so that processes started later find it too."""
    with s3_server() as server, pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN"):  # the developer's own, which would win or be sent along
            patch.delenv(name, raising=False)
        for name, value in server.environment().items():
            patch.setenv(name, value)
        stores._open_filesystem.cache_clear()  # one that an earlier test opened has not these credentials
        yield server


@pytest.fixture
def small_checkpoints(monkeypatch: pytest.MonkeyPatch) -> None:
    """Accepts stand-ins for published checkpoints: a few numbers shown many times, refused in files of strangers."""
    monkeypatch.setattr(state_dicts, "_refuse_expanded", lambda content, size, name: None)


@pytest.fixture(scope="session")
def s3(s3_endpoint: S3Server) -> Callable[[], str]:
    """Makes URIs of fresh, empty S3 prefixes."""
    return lambda: f"s3://{s3_endpoint.bucket}/{uuid.uuid4().hex}"


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium without a window."""
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        pytest.skip("there is no Chromium here: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])  # root has no sandbox
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def ray_cluster(s3_endpoint: S3Server) -> Iterator[str]:
    """Address of a Ray cluster of 2 CPUs and 2 GPUs that are only counted; its workers find the S3 server too."""
    import ray  # seconds, which sessions without a test of the pipeline need not spend

    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS", raising=False)
        patch.setenv("RAY_AUTH_MODE", "disabled")  # else Ray makes a token in the developer's home
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        quiet = {"include_dashboard": False, "logging_level": "warning", "log_to_driver": False}
        ray.init(address="local", num_cpus=2, num_gpus=2, **quiet)
        yield ray.get_runtime_context().gcs_address
        ray.shutdown()
