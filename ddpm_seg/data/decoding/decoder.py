"""Decodes untrusted image files in separate processes.

Pillow's C code can loop, crash or take all memory, and nothing in the same process can stop it. So a thread that reads
images borrows a child process: bytes in, pixels out, through memory that the two share (see `window`). The child ends
with its parent, when its standard input closes. It inherits no environment, which may hold credentials, and its answers
are plain data, never pickles, which could run code. Before its first image it gives up access to files, network,
programs and other processes (see `confinement`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddpm_seg.data.canvas import CanvasSize, Placement
from ddpm_seg.data.decoding.child import MEMORY_EXIT, NOT_CONFINED, READY
from ddpm_seg.data.decoding.confinement import hide_memory_and_environment
from ddpm_seg.data.decoding.images import DEFAULT_LIMITS, Decoded, ImageError, Limits
from ddpm_seg.data.decoding.window import Window
from ddpm_seg.fits import FitMode

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Child:
    """A process that decodes, and the memory it puts pixels into."""

    process: subprocess.Popen[bytes]
    window: Window

    @property
    def pid(self) -> int:
        return self.process.pid


_COMMAND = (sys.executable, "-m", "ddpm_seg.data.decoding.child")
_LATE = (-signal.SIGPROF, -signal.SIGALRM)

_idle: list[Child] = []
_warned = threading.Event()
# A fork (multiprocessing's usual way on Linux) copies the list, and two processes on the pipes of one child would get
# each other's pixels.
os.register_at_fork(after_in_child=lambda: _idle.clear())


def decode_and_fit(
    data: bytes, limits: Limits, size: CanvasSize, mode: FitMode, finer: int = 1, tile: float | None = None
) -> tuple[NDArray[np.uint8], Placement]:
    """`fit(decode(data, limits), size, mode, finer)` in a child process; the canvas is read-only. With `tile`, the
    canvas is that of `tile_canvas` for squares of `size` at this scale.

    Raises ImageError as `decode` does, and with the types "out_of_memory" (more than `limits.decode_memory`),
    "decode_timeout" (more than `limits.decode_seconds`) and "decoder_crashed"; RuntimeError if no child can be started.
    May be called from many threads: each borrows its own child, and a dead child is replaced.
    """
    (reply,) = decode_and_fit_all([data], limits, size, mode, finer, tile)
    if isinstance(reply, ImageError):
        raise reply
    return reply


def decode_and_fit_all(
    images: Sequence[bytes], limits: Limits, size: CanvasSize, mode: FitMode, finer: int = 1, tile: float | None = None
) -> list[tuple[NDArray[np.uint8], Placement] | ImageError]:
    """What `decode_and_fit` returns or raises for each of several images, which one child decodes one after another.

    A message to the child and back costs as much as decoding a small image. The canvases share memory.
    """
    wanted = {"size": size, "mode": mode, "finer": finer, "tile": tile}
    return [
        reply if isinstance(reply, ImageError) else (reply.pixels, Placement(**reply.about["placement"]))
        for reply in _request(images, limits, wanted)
    ]


def read_apart(data: bytes, limits: Limits = DEFAULT_LIMITS) -> Decoded:
    """`images.read(data, limits)` in a child process; raises as `decode_and_fit` does. The pixels are read-only."""
    (reply,) = _request([data], limits, {})
    if isinstance(reply, ImageError):
        raise reply
    return Decoded(pixels=reply.pixels, format=reply.about["format"], turned=reply.about["turned"])


@dataclass(frozen=True, slots=True)
class _Reply:
    about: dict[str, Any]
    pixels: NDArray[np.uint8]


def _request(images: Sequence[bytes], limits: Limits, wanted: dict[str, Any]) -> list[_Reply | ImageError]:
    header = {"bytes": list(map(len, images)), "limits": dataclasses.asdict(limits), **wanted}
    request = (json.dumps(header).encode() + b"\n", *images)
    try:
        return _ask(_borrow(), request)
    except _ChildDiedError as death:
        if len(images) > 1:  # one of them is at fault: find it
            return [reply for image in images for reply in _request([image], limits, wanted)]
        if death.exit_code in _LATE:
            return [_verdict(death.exit_code, limits)]
    # Earlier images, or something outside, may have killed the child, so try once more in a fresh one.
    try:
        return _ask(_start(), request)
    except _ChildDiedError as death:
        return [_verdict(death.exit_code, limits)]


class _ChildDiedError(Exception):
    def __init__(self, exit_code: int) -> None:
        super().__init__(exit_code)
        self.exit_code = exit_code


def _verdict(exit_code: int, limits: Limits) -> ImageError:
    if exit_code in _LATE:
        message = f"decoding takes more than {limits.decode_seconds:g} s of processor time"
        return ImageError("decode_timeout", message)
    if exit_code == MEMORY_EXIT:
        return ImageError("out_of_memory", f"decoding needs more than {limits.decode_memory} bytes of memory")
    logger.warning("a file crashed the decoder (exit code %d)", exit_code)
    # The signal differs from run to run if the heap is damaged, but the same bytes must give the same row.
    return ImageError("decoder_crashed", "the file crashes the decoder")


def _borrow() -> Child:
    try:
        return _idle.pop()
    except IndexError:
        return _start()


def _start() -> Child:
    # Not multiprocessing: its spawn would import the parent's main module, which is Ray's in a worker.
    environment = {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    # Keep memory from one image to the next: allocating it again takes as long as decoding.
    environment |= {"MALLOC_TOP_PAD_": str(64 << 20), "MALLOC_ARENA_MAX": "1"}
    environment |= {"MALLOC_TRIM_THRESHOLD_": str(128 << 20), "MALLOC_MMAP_THRESHOLD_": str(32 << 20)}
    if "LD_LIBRARY_PATH" in os.environ:
        environment["LD_LIBRARY_PATH"] = os.environ["LD_LIBRARY_PATH"]
    try:
        window = Window()
        with window.shared() as descriptor:
            process = subprocess.Popen(
                (*_COMMAND, str(descriptor)),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=environment,
                pass_fds=(descriptor,),
            )
    except OSError as error:  # no image is at fault
        raise RuntimeError(f"the process that decodes images does not start: {error}") from error
    child = Child(process, window)
    assert process.stdout is not None
    greeting = process.stdout.readline()
    if greeting.startswith(NOT_CONFINED):
        _warn_once(greeting.removeprefix(NOT_CONFINED).decode().strip())
    elif greeting != READY:
        raise RuntimeError(
            f"the process that decodes images does not start: {' '.join(_COMMAND)} ended with {_end(child)}; "
            "see standard error (on a cluster, the worker's log) for the reason"
        )
    return child


def _warn_once(reason: str) -> None:
    if _warned.is_set():
        return
    _warned.set()
    # The child could read credentials from this process's environment. Hidden only now, as hiding has a price.
    hide_memory_and_environment()
    logger.warning(
        "the process that decodes images is not confined and can use this user's files and network (%s); "
        "if images come from strangers, run on Linux with seccomp, on x86_64 or aarch64",
        reason,
    )


def _ask(child: Child, request: Sequence[bytes]) -> list[_Reply | ImageError]:
    """The child's reply to each image: the pixels (H, W, 3) uint8, or its error."""
    requests, replies = child.process.stdin, child.process.stdout
    assert requests is not None
    assert replies is not None
    # If the child dies meanwhile, the pipe breaks; the missing answer below reports it.
    with contextlib.suppress(BrokenPipeError):
        requests.writelines(request)
        requests.flush()
    answers: list[tuple[dict[str, Any], bytes]] = []
    for _ in request[1:]:
        line = replies.readline()
        if not line.endswith(b"\n"):
            raise _ChildDiedError(_end(child))
        about = json.loads(line)
        sent = replies.read(about["sent"])
        if len(sent) < about["sent"]:
            raise _ChildDiedError(_end(child))
        answers.append((about, sent))
    shown = child.window.copy(max(about["end"] for about, _ in answers))
    _idle.append(child)
    return [_reply(about, sent, shown) for about, sent in answers]


def _reply(about: dict[str, Any], sent: bytes, shown: NDArray[np.uint8]) -> _Reply | ImageError:
    """An answer with its pixels, which were `sent`, or lie in what the window has `shown`."""
    if "error" in about:
        return ImageError(*about["error"])
    height, width = about["shape"]
    pixels = np.frombuffer(sent, np.uint8) if sent else shown[about["end"] - height * width * 3 : about["end"]]
    return _Reply(about, pixels.reshape(height, width, 3))


def _end(child: Child) -> int:
    """Exit code of a dead child; closes its pipes."""
    with contextlib.suppress(BrokenPipeError):  # it did not read everything
        child.process.communicate()
    return child.process.returncode
