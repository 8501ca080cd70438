"""What malicious code in the decoder's child process could do, tried by hand from inside a child."""

from __future__ import annotations

import errno
import json
import logging
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from PIL import Image

from ddpm_seg.data.decoding import decoder
from ddpm_seg.data.decoding.confinement import confine
from ddpm_seg.data.decoding.decoder import decode_and_fit
from ddpm_seg.data.decoding.images import DEFAULT_LIMITS, ImageError
from tests.odd_images import encode, picture

GOOD = encode(Image.fromarray(picture()), "PNG")
SECRET = "secret-of-the-test"

# Runs in the child in place of `decode`. Each attempt ends with its result, or with the error's number.
BURGLAR = """
import ctypes, json, mmap, os, resource, signal, socket, sys
from ddpm_seg.data.decoding import child
from ddpm_seg.data.decoding.images import ImageError

libc = ctypes.CDLL(None, use_errno=True)
parent = os.getppid()
buffer = ctypes.create_string_buffer(64)

class Vector(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]

def call(name, *arguments):
    function = getattr(libc, name)
    function.restype = ctypes.c_long
    result = function(*arguments)
    if result in (-1, 2**32 - 1):
        raise OSError(ctypes.get_errno(), "")
    return result

vector = Vector(ctypes.addressof(buffer), 64)
attempts = {
    "parent's environment": lambda: open(f"/proc/{parent}/environ", "rb").read().decode("latin-1"),
    "parent's memory": lambda: open(f"/proc/{parent}/mem", "rb").close(),
    "own environment": lambda: open("/proc/self/environ", "rb").close(),
    "a file": lambda: open("/etc/passwd").close(),
    "a folder": lambda: os.listdir("/"),
    "a file's size": lambda: os.stat("/etc/passwd").st_size,
    "a new file": lambda: open(sys.argv[1], "w").close(),
    "a link": lambda: os.symlink("/etc/passwd", sys.argv[1]),
    "a file's deletion": lambda: os.unlink(sys.argv[1]),
    "TCP": lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM).close(),
    "UDP": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).close(),
    "a Unix socket": lambda: socket.socket(socket.AF_UNIX).close(),
    "a program": lambda: os.execv("/bin/true", ["true"]),
    "a process": lambda: call("fork"),
    "ptrace": lambda: call("ptrace", 0x4206, parent, None, None),
    "reading memory": lambda: call("process_vm_readv", parent, ctypes.byref(vector), 1, ctypes.byref(vector), 1, 0),
    "a signal": lambda: os.kill(parent, 0),
    "parent's limits": lambda: resource.prlimit(parent, resource.RLIMIT_NOFILE),
    "parent's descriptors": lambda: call("syscall", 438, 3, 0, 0),
    "io_uring": lambda: call("syscall", 425, 1, buffer),
    "a user namespace": lambda: call("unshare", 0x10000000),
    "root": lambda: os.setuid(0),
    "machine code": lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC).close(),
    "typing into the terminal": lambda: call("ioctl", 0, 0x5412, buffer),
}

def burgle(data, limits):
    found = {}
    for name, attempt in attempts.items():
        try:
            found[name] = repr(attempt())
        except OSError as error:
            found[name] = error.errno
    raise ImageError("found", json.dumps(found))

child.decode = burgle
child.serve()
"""


@pytest.fixture(autouse=True)
def _no_children_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoder, "_idle", [])
    monkeypatch.setattr(decoder, "_warned", threading.Event())


def refused_everywhere() -> str | None:
    """Why this machine cannot confine a process; None where it can. Tried in a child, as it is for good."""
    reader, writer = os.pipe()
    if (pid := os.fork()) == 0:
        os.write(writer, (confine() or "").encode())
        os._exit(0)
    os.close(writer)
    os.waitpid(pid, 0)
    with os.fdopen(reader) as answer:
        return answer.read() or None


def test_a_child_that_was_taken_over_reaches_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    if reason := refused_everywhere():
        pytest.skip(reason)
    planted = tmp_path / "planted"
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setattr(decoder, "_COMMAND", (sys.executable, "-c", BURGLAR, str(planted)))
    with pytest.raises(ImageError) as caught:
        decode_and_fit(GOOD, DEFAULT_LIMITS, 32, "letterbox")
    found = json.loads(str(caught.value))
    assert len(found) == 24
    names = {name: errno.errorcode.get(result, result) for name, result in found.items()}
    assert names == dict.fromkeys(found, "EPERM")
    assert not planted.exists()


def test_the_child_holds_nothing_of_its_parent_open(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    if not Path("/proc/self/fd").exists():
        pytest.skip("reads /proc")
    with socket.socket() as connection, (tmp_path / "open").open("w") as file:
        os.set_inheritable(connection.fileno(), True)
        os.set_inheritable(file.fileno(), True)
        decode_and_fit(GOOD, DEFAULT_LIMITS, 32, "letterbox")
        folder = Path(f"/proc/{decoder._idle[0].pid}/fd")
        kinds = [str(descriptor.readlink()).split(":")[0] for descriptor in folder.iterdir()]
    assert sorted(kinds) == ["/dev/null"] * 3 + ["/memfd"] + ["pipe"] * 2, "and the memory that it shares"


def test_where_the_kernel_refuses_images_are_read_and_one_warning_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    hidden: list[bool] = []
    without = "from ddpm_seg.data.decoding import child; child.confine = lambda: 'no seccomp here'; child.serve()"
    monkeypatch.setattr(decoder, "_COMMAND", (sys.executable, "-c", without))
    monkeypatch.setattr(decoder, "hide_memory_and_environment", lambda: hidden.append(True))
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            decode_and_fit(GOOD, DEFAULT_LIMITS, 32, "letterbox")
            decoder._idle.clear()
    (record,) = caplog.records
    assert "(no seccomp here)" in record.message
    assert hidden == [True]


@pytest.mark.skipif(sys.platform != "linux", reason="there is no /proc elsewhere")
def test_a_hidden_process_keeps_its_environment_from_its_user() -> None:
    hide = (
        "import os, subprocess, sys; from ddpm_seg.data.decoding.confinement import hide_memory_and_environment;"
        "os.getuid() == 0 and os.setuid(65534); hide_memory_and_environment();"
        "print(subprocess.run(['cat', f'/proc/{os.getpid()}/environ'], capture_output=True, text=True).stderr)"
    )
    answer = subprocess.run([sys.executable, "-c", hide], capture_output=True, text=True, check=False)
    assert "Permission denied" in answer.stdout, answer
