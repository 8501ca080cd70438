"""Every job ends in the same ways, with the same statuses. Signals are sent to real processes."""

from __future__ import annotations

import dataclasses
import errno
import importlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ddpm_seg.command_line.run import refuse_lost_output, run
from ddpm_seg.errors import StageError, TooManyErrors, work_began
from ddpm_seg.model.bundle.ensemble_bundle import save_bundle
from ddpm_seg.runs.heartbeat import AlreadyRunningError
from ddpm_seg.storage import CredentialsError, StorageError, StorageUnavailableError
from tests.annotated_boxes import annotate
from tests.tiny_bundle import tiny_bundle

ROOT = Path(__file__).parents[2]
JOBS = sorted(path.stem for path in (ROOT / "jobs").glob("[!_]*.py"))
AGAIN = "run the same command again"
MANY = "1000000"

REQUIRED = {
    "annotate": "--samples s --plenty p --task avatars_10 --output out.parquet",
    "avatars": "--output out",
    "benchmark": "--output out",
    "changes": "--labels out",
    "compact": "--labels s --output out",
    "forget": "--uris u --labels out",
    "compare": "--model m --task avatars_10 --train t --output out",
    "convert": "--ddpm d --output out",
    "corruptions": "--model m --task avatars_10 --train t --test t --output out",
    "curate": "--samples out",
    "distill": "--samples s --output out",
    "evaluate": "--model m --images i --output out",
    "explore": "--images i --output out",
    "export": "--labels s --to png --output out",
    "generate": "--model avatars-10 --num-samples 2 --output out",
    "label": "",  # the default is ./out
    "probe": "--model m --task avatars_10 --train t --test t --output out",
    "pretrain": "--images i --output out",
    "pretrain_mae": "--images i --output out",
    "reproduce": "--all --datasets d --checkpoints c --output out",
    "showcase": "--model avatars-10 --images i --training-images t --output out",
    "train": "--model m --images i --task avatars_10 --output out",
}
"""Arguments with which each job begins to work; what they name is not there."""


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings."""

    output: str = "out"
    """Where."""


def test_all_jobs_are_known() -> None:
    assert sorted(REQUIRED) == JOBS
    assert len(JOBS) == 22


@pytest.mark.parametrize("job", JOBS)
def test_every_job_goes_through_the_one_place(job: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module, seen = importlib.import_module(f"ddpm_seg.commands.{job}"), []
    monkeypatch.setattr(module, "run", lambda *arguments, **options: seen.append((arguments, options)) or 7)
    assert module.main([]) == 7
    ((config, _, description, argv), options) = seen[0]
    assert argv == []
    assert f"ddpm-seg {job.replace('_', '-')} " in description
    fields = {field.name for field in dataclasses.fields(config)}
    assert fields.issuperset(options.get("writes", ("output",)))


@pytest.mark.parametrize("job", JOBS)
@pytest.mark.parametrize("form", ["relative", "absolute"])
def test_an_output_in_rays_session_folder_is_refused_before_any_work(
    job: str, form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "session_2026-11-25_18-12-21_228609_13646/runtime_resources/working_dir_files/_ray_pkg_0a1b"
    folder.mkdir(parents=True)
    (tmp_path / "session_latest").symlink_to(folder.parents[2])
    arguments = REQUIRED[job].split()
    if form == "relative":
        monkeypatch.chdir(folder)
    else:
        monkeypatch.chdir(tmp_path)
        arguments = [*(arguments or ["--output", "out"])[:-1], str(tmp_path / "session_latest" / "out.parquet")]
    assert importlib.import_module(f"jobs.{job}").main(arguments) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "a folder that Ray deletes" in error
    assert "s3://" in error
    assert not list(folder.iterdir())


def test_other_outputs_are_not_refused(tmp_path: Path) -> None:
    for output in (str(tmp_path / "session" / "out"), "s3://bucket/session_latest/out", "/tmp/ray/labels", "out"):
        refuse_lost_output(Config(output=output))


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (StageError("it broke"), 4, f"failed: it broke; {AGAIN} to continue"),
        (StorageUnavailableError("s3://b/x: HTTP 503"), 4, f"failed: s3://b/x: HTTP 503; {AGAIN} to continue"),
        (CredentialsError("s3://b/x: ExpiredToken"), 2, "error: s3://b/x: ExpiredToken"),  # not one of the work
        (KeyboardInterrupt(), 4, f"interrupted; {AGAIN} to continue"),
        *((OSError(code, os.strerror(code), "/o"), 4, AGAIN) for code in (errno.ENOSPC, errno.EDQUOT, errno.EIO)),
        (TooManyErrors("7 of 9"), 3, "stopped: 7 of 9"),
        (AlreadyRunningError("ann is at it"), 5, "already running: ann is at it"),
        (StorageError("the bucket does not exist"), 2, "error: the bucket does not exist"),
        (PermissionError(errno.EACCES, "no", "/o"), 2, "error: [Errno 13] no: '/o'"),
        (ValueError("--size is 0"), 2, "error: --size is 0"),
        (ImportError("pip install more"), 2, "error: pip install more"),
    ],
)
def test_each_way_to_end_has_its_status_and_one_line(
    error: BaseException, status: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(config: Config) -> str:
        raise error

    assert run(Config, fail, "A job.", []) == status
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert line in said


@pytest.mark.parametrize("bug", [TypeError("x"), ModuleNotFoundError("x", name="x"), AssertionError()])
def test_a_bug_shows_its_traceback(bug: Exception) -> None:
    def fail(config: Config) -> str:
        raise bug

    with pytest.raises(type(bug)):
        run(Config, fail, "A job.", [])


def test_an_oserror_is_wrong_use_before_the_work_and_a_failure_in_it() -> None:
    with pytest.raises(StageError, match="Stale"), work_began():
        raise OSError(errno.ESTALE, "Stale file handle")
    with pytest.raises(StageError, match="ExpiredToken"), work_began():
        raise CredentialsError("s3://b/x: ExpiredToken")


@contextmanager
def started(*arguments: str, wait_for: str | None = None, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """A job's process, once `wait_for` is in its log; what it writes to stderr is kept in `.said`."""
    where = {**os.environ, "RAY_AUTH_MODE": "disabled", **environment}
    process = subprocess.Popen(
        [sys.executable, "-m", *arguments], cwd=ROOT, env=where, text=True, stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    process.said = []  # type: ignore[attr-defined]
    seen = threading.Event()

    def read() -> None:
        assert process.stderr is not None
        for line in process.stderr:
            process.said.append(line)  # type: ignore[attr-defined]
            if wait_for is not None and re.search(wait_for, line):
                seen.set()

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        assert wait_for is None or seen.wait(120), process.said  # type: ignore[attr-defined]
        yield process
        process.wait(90)
        reader.join(10)
    finally:
        process.kill()


def ended(process: subprocess.Popen[str], by: str) -> None:
    """Asserts that the job ended with status 4 and one last line, and without a traceback."""
    said = "".join(process.said)  # type: ignore[attr-defined]
    assert process.wait(90) == 4, said
    time.sleep(0.2)
    said = "".join(process.said)  # type: ignore[attr-defined]
    assert said.splitlines()[-1] == f"{by}; {AGAIN} to continue"
    assert "Traceback" not in said


@pytest.mark.parametrize(("number", "by"), [("SIGTERM", "stopped by SIGTERM"), ("SIGINT", "interrupted")])
def test_a_signal_during_the_imports_ends_a_job_at_once(number: str, by: str) -> None:
    with started("jobs.label", "--input", "/not/there") as process:
        until_listening(process.pid)
        os.kill(process.pid, signal.Signals[number])
    ended(process, by)


@pytest.mark.parametrize(("number", "by"), [("SIGTERM", "stopped by SIGTERM"), ("SIGINT", "interrupted")])
def test_a_signal_while_the_work_is_being_imported_ends_a_job_too(number: str, by: str) -> None:
    with started("jobs.label", "--input", "/not/there") as process:
        while "libtorch" not in Path(f"/proc/{process.pid}/maps").read_text():
            assert process.poll() is None
            time.sleep(0.01)
        os.kill(process.pid, signal.Signals[number])
    ended(process, by)


def until_listening(pid: int) -> None:
    """Waits until the process handles SIGTERM: Python has begun to run it."""
    while True:
        caught = re.search(r"SigCgt:\s*(\w+)", Path(f"/proc/{pid}/status").read_text())
        if caught and int(caught[1], 16) >> (signal.SIGTERM - 1) & 1:
            return
        time.sleep(0.01)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(annotate(tmp_path_factory.mktemp("images") / "train", 4))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = str(tmp_path_factory.mktemp("model") / "model")
    save_bundle(tiny_bundle(), path)
    return path


def pretrain(images: str, output: Path) -> list[str]:
    small = ["--image-size", "16", "--channel-mult", "1", "1", "--attention-resolutions", "8", "--batch-size", "2"]
    return ["jobs.pretrain", "--images", images, "--output", str(output), *small]


def test_sigterm_in_a_training_saves_its_state_and_the_same_command_goes_on(images: str, tmp_path: Path) -> None:
    with started(*pretrain(images, tmp_path / "m"), "--iterations", MANY, wait_for="4 images") as process:
        time.sleep(2)
        process.terminate()
    ended(process, "stopped by SIGTERM")
    assert (tmp_path / "m" / "unfinished_training.pt").stat().st_size
    with started(*pretrain(images, tmp_path / "m"), "--iterations", MANY, wait_for="resumed at") as process:
        # What `timeout` does: the process, then its group. One stop, not two.
        os.kill(process.pid, signal.SIGTERM)
        os.killpg(process.pid, signal.SIGTERM)
    ended(process, "stopped by SIGTERM")


def test_ctrl_c_in_a_comparison_is_one_line(images: str, model: str, tmp_path: Path) -> None:
    named = ["--model", model, "--task", "avatars_10", "--train", images, "--output", str(tmp_path / "out")]
    with started("jobs.compare", *named, "--test", images, wait_for=r"on train \(4 images\)") as process:
        os.kill(process.pid, signal.SIGINT)
    ended(process, "interrupted")


@pytest.mark.slow
def test_a_job_in_the_background_ignores_sigint_and_ends_by_sigterm(images: str, tmp_path: Path) -> None:
    """A shell without job control starts `job &` with SIGINT ignored, and nohup SIGHUP."""
    before = [signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGHUP)]
    try:
        with started(*pretrain(images, tmp_path / "m"), "--iterations", MANY, wait_for="4 images") as process:
            for number in (signal.SIGINT, signal.SIGHUP):
                os.kill(process.pid, number)
            time.sleep(1)
            assert process.poll() is None
            process.terminate()
        ended(process, "stopped by SIGTERM")
    finally:
        for number, handler in zip((signal.SIGINT, signal.SIGHUP), before, strict=True):
            signal.signal(number, handler)


STUCK = """
import ctypes, sys, time
from dataclasses import dataclass
from ddpm_seg.command_line import signals
from ddpm_seg.command_line.run import run

@dataclass
class Config:
    output: str = "out"

def stuck(config):
    print("working", file=sys.stderr, flush=True)
    mutex = ctypes.create_string_buffer(64)
    for _ in range(2):  # locked twice, it waits for ever in C, where no signal is heard
        ctypes.CDLL(None).pthread_mutex_lock(mutex)

def slow_to_save(config):
    print("working", file=sys.stderr, flush=True)
    try:
        time.sleep(60)
    finally:
        time.sleep(60)

work, limit = globals()[sys.argv.pop(1)], float(sys.argv.pop(1))
signals.LIMIT_SECONDS = limit
sys.exit(run(Config, work, "A job.", None))
"""


@pytest.mark.parametrize(("work", "limit"), [("stuck", "3"), ("slow_to_save", "50")])
def test_work_that_does_not_stop_is_ended_after_a_while_or_by_a_second_signal(
    work: str, limit: str, tmp_path: Path
) -> None:
    (tmp_path / "job.py").write_text(STUCK)
    with started("job", work, limit, wait_for="working", PYTHONPATH=f"{tmp_path}:{ROOT}") as process:
        time.sleep(0.5)
        process.terminate()
        if work == "slow_to_save":
            time.sleep(1.5)
            process.terminate()
        process.wait(20)
    ended(process, "stopped by SIGTERM")


def test_nobody_reading_the_output_is_no_failure(tmp_path: Path) -> None:
    piped = f"{sys.executable} -m jobs.curate --help | true; echo ${{PIPESTATUS[0]}}; "
    piped += f"{sys.executable} -m jobs.curate --samples {tmp_path} 2>&1 | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", piped], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.stdout.split() == ["0", "2"]
    assert done.stderr == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux")
def test_a_full_disk_is_status_4(images: str, tmp_path: Path) -> None:
    """The file size limit stands in for the disk's end: writing fails in the middle of the work."""
    limited = f"ulimit -f 100; exec {sys.executable} -m " + " ".join(pretrain(images, tmp_path / "m"))
    done = subprocess.run(
        ["bash", "-c", f"{limited} --iterations 2"], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 4, done.stderr
    assert AGAIN in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("address", ["garbage://x", "ray://127.0.0.1:10001", "nonsense", "127.0.0.1:1", "silent"])
def test_a_cluster_that_is_not_there_is_one_line(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from ddpm_seg.cluster import nodes

    monkeypatch.setattr(nodes, "ANSWER_SECONDS", 1)
    monkeypatch.setattr(nodes.ray, "is_initialized", lambda: False)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        if address == "silent":  # a head that is frozen, or another kind of server
            address = f"127.0.0.1:{silent.getsockname()[1]}"
        monkeypatch.setenv("RAY_ADDRESS", address)
        with pytest.raises(ValueError, match=re.escape(f"RAY_ADDRESS={address}")) as raised:
            nodes.connect()
    assert "unset RAY_ADDRESS" in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.slow  # it is patient for 20 seconds
def test_a_job_says_within_a_minute_that_its_cluster_is_not_there(model: str, images: str, tmp_path: Path) -> None:
    named = ["--model", model, "--input", images, "--output", str(tmp_path / "out")]
    with started("jobs.label", *named, RAY_ADDRESS="127.0.0.1:1") as process:
        assert process.wait(60) == 2
    said = "".join(process.said)  # type: ignore[attr-defined]
    assert "RAY_ADDRESS=127.0.0.1:1" in said.splitlines()[-1]
    assert "Traceback" not in said


def ray_job(name: str, model: str, images: str, tmp_path: Path) -> list[str]:
    named = ["--model", model, "--output", str(tmp_path / "out"), "--chunk-size", "1"]
    return [f"jobs.{name}", *named, *(["--input", images] if name == "label" else ["--num-samples", "5000"])]


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [1.0, 4.0])
@pytest.mark.parametrize("name", ["label", "generate"])
def test_sigterm_while_ray_starts_and_while_it_works(
    name: str, seconds: float, model: str, images: str, tmp_path: Path
) -> None:
    wait = ", each on" if seconds > 2 else None
    with started(*ray_job(name, model, images, tmp_path), wait_for=wait, RAY_ADDRESS="") as process:
        until_listening(process.pid)
        time.sleep(seconds)
        process.terminate()
    if process.returncode != 0:  # a fast machine may have labelled all of it
        ended(process, "stopped by SIGTERM")
