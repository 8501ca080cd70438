from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ddpm_seg import storage
from ddpm_seg.runs import heartbeat as module
from ddpm_seg.runs.heartbeat import AlreadyRunningError, heartbeat, refuse_if_running
from ddpm_seg.runs.layout import RunLayout

DRIVER = """
import sys, time
from ddpm_seg.runs.heartbeat import heartbeat
from ddpm_seg.runs.layout import RunLayout
with heartbeat(RunLayout(output=sys.argv[1], table="labels", config_hash="c", run_id="run-000012"), every=0.05):
    print("working", flush=True)
    time.sleep(600)
"""


def layout_of(output: str) -> RunLayout:
    return RunLayout(output=output, table="labels", config_hash="c", run_id="run-000012")


@pytest.fixture
def layout(tmp_path: Path) -> RunLayout:
    return layout_of(str(tmp_path))


@pytest.fixture
def start_driver() -> Iterator[Callable[[RunLayout], subprocess.Popen[str]]]:
    """Starts processes that work on a run until the test ends."""
    started = []

    def start(layout: RunLayout) -> subprocess.Popen[str]:
        process = subprocess.Popen([sys.executable, "-c", DRIVER, layout.output], stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "working\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


def on_another_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_machine", lambda: "another kernel")


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_second_driver_is_told_who_works(
    layout: RunLayout, start_driver: Callable[[RunLayout], subprocess.Popen[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    process = start_driver(layout)
    for look in (lambda: None, lambda: on_another_host(monkeypatch)):
        look()
        with pytest.raises(AlreadyRunningError, match="run-000012") as error, heartbeat(layout):
            pass
        for part in (f"(process {process.pid})", os.uname().nodename, "last sign of life was 0 s ago"):
            assert part in str(error.value)
    beat = json.loads(storage.read_bytes(layout.heartbeat))
    assert (beat["host"], beat["pid"]) == (os.uname().nodename, process.pid)


def test_a_killed_driver_is_followed_at_once_on_its_host(
    layout: RunLayout, start_driver: Callable[[RunLayout], subprocess.Popen[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    process = start_driver(layout)
    process.kill()
    until(lambda: "Z" in Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2])
    with heartbeat(layout):  # dead, though nobody has asked for its exit status yet
        assert json.loads(storage.read_bytes(layout.heartbeat))["pid"] == os.getpid()
    assert not storage.exists(layout.heartbeat)


def test_a_killed_driver_is_followed_within_a_minute_elsewhere(
    layout: RunLayout, start_driver: Callable[[RunLayout], subprocess.Popen[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    process = start_driver(layout)
    process.kill()
    process.wait()
    on_another_host(monkeypatch)
    with pytest.raises(AlreadyRunningError):
        refuse_if_running(layout)
    age(layout, 59)
    with pytest.raises(AlreadyRunningError, match="59 s ago"):
        refuse_if_running(layout)
    age(layout, 60)
    with heartbeat(layout):
        pass


def age(layout: RunLayout, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(layout.heartbeat, (then, then))


def rewrite(layout: RunLayout, **changes: object) -> None:
    beat = json.loads(storage.read_bytes(layout.heartbeat)) | changes
    storage.write_bytes(layout.heartbeat, json.dumps(beat).encode())


def test_a_pid_that_another_process_has_now_is_a_dead_one(
    layout: RunLayout, start_driver: Callable[[RunLayout], subprocess.Popen[str]]
) -> None:
    start_driver(layout).kill()
    rewrite(layout, pid=os.getppid(), process_start="1")
    refuse_if_running(layout)


def test_clocks_of_hosts_may_differ(
    layout: RunLayout, start_driver: Callable[[RunLayout], subprocess.Popen[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    start_driver(layout).kill()
    on_another_host(monkeypatch)
    for year in ("2001", "2099"):
        rewrite(layout, time=f"{year}-01-01T00:00:00+00:00")
        with pytest.raises(AlreadyRunningError, match="last sign of life was 0 s ago"):
            refuse_if_running(layout)


def test_a_driver_that_hangs_is_stale(
    layout: RunLayout, start_driver: Callable[[RunLayout], subprocess.Popen[str]]
) -> None:
    process = start_driver(layout)
    process.send_signal(19)  # SIGSTOP: alive, and beating no more
    until(lambda: "T" in Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2])
    age(layout, 61)
    refuse_if_running(layout)


def test_of_many_that_come_at_once_one_works(layout: RunLayout, tmp_path: Path) -> None:
    command = [sys.executable, "-c", DRIVER, str(tmp_path)]
    processes = [subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) for _ in range(4)]
    try:
        until(lambda: sum(process.poll() is not None for process in processes) == 3)
        (working,) = [process for process in processes if process.poll() is None]
        assert json.loads(storage.read_bytes(layout.heartbeat))["pid"] == working.pid
    finally:
        for process in processes:
            process.kill()
    errors = [process.communicate()[1] for process in processes if process is not working]
    assert all(b"AlreadyRunningError" in error for error in errors)


def test_the_work_goes_on_while_the_store_does_not_answer(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def lead_to(target: str) -> None:
        (tmp_path / "new").symlink_to(target)
        (tmp_path / "new").rename(tmp_path / "store")

    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    lead_to("folder")
    layout = layout_of(str(tmp_path / "store"))
    with heartbeat(layout, every=0.02):
        lead_to("file")  # where nothing can be written
        until(lambda: "work continues" in caplog.text)
        time.sleep(0.2)
        lead_to("folder")
        storage.delete(layout.heartbeat)
        until(lambda: storage.exists(layout.heartbeat))
    assert caplog.text.count("work continues") == 1
    assert not storage.exists(layout.heartbeat)


def test_a_heartbeat_of_another_kind_is_left_out_of_account(layout: RunLayout) -> None:
    for content in (b"", b"[]", b'{"host": "h"}'):
        storage.write_bytes(layout.heartbeat, content)
        refuse_if_running(layout)


def test_on_object_storage(s3: Callable[[], str], monkeypatch: pytest.MonkeyPatch) -> None:
    layout = layout_of(s3())
    with heartbeat(layout, every=600):
        refuse_if_running(layout)  # one's own
        on_another_host(monkeypatch)
        with pytest.raises(AlreadyRunningError, match=r"last sign of life was \d s ago"):
            refuse_if_running(layout)
        monkeypatch.setattr(module, "STALE_SECONDS", 2.0)
        time.sleep(3.2)
        refuse_if_running(layout)
    assert list(storage.list_files(layout.folder)) == []
