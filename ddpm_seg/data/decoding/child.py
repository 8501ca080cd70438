"""The process that decodes: answers requests of `decoder` until its standard input ends."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import importlib
import json
import os
import resource
import signal
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

from ddpm_seg.data.canvas import Placement, fit, tile_canvas
from ddpm_seg.data.decoding.confinement import confine
from ddpm_seg.data.decoding.formats import register_plugins
from ddpm_seg.data.decoding.images import ImageError, Limits, decode, read
from ddpm_seg.data.decoding.window import Window

READY = b"ready\n"
NOT_CONFINED = b"not confined: "
"""What the process says first; a reason follows the second."""
MEMORY_EXIT = 77
"""Exit status of a process whose image needs too much memory."""
_PLACEMENT = [field.name for field in dataclasses.fields(Placement)]  # `asdict` would take longer than all else here
# Real time allowed per second of processor time. A process that hangs uses no processor time, and a good image must not
# fail because the machine is busy.
_REAL_SECONDS = 10


def serve() -> None:
    """Answers requests until standard input ends."""
    gc.freeze()  # what was imported is never garbage
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    window = Window(int(sys.argv[-1]))
    _be_strict()
    address_space = _address_space()
    # What C libraries print must not get into the answers, nor fill a log.
    with open(os.devnull, "r+b") as nowhere:
        for descriptor in (0, 1, 2):
            os.dup2(nowhere.fileno(), descriptor)
    refusal = confine()
    replies.write(READY if refusal is None else NOT_CONFINED + refusal.encode() + b"\n")
    replies.flush()
    for line in requests:
        request = json.loads(line)
        images = [requests.read(length) for length in request["bytes"]]
        end = 0
        for data in images:
            try:
                about, pixels = _answer(data, request, address_space)
            except MemoryError:
                os._exit(MEMORY_EXIT)
            fits = window.put(end, pixels)
            end += pixels.size if fits else 0
            sent = b"" if fits else pixels.data
            replies.write(json.dumps({**about, "end": end, "sent": len(sent)}).encode() + b"\n")
            replies.write(sent)
        replies.flush()


def _be_strict() -> None:
    Image.preinit()
    # Pillow would import these with the first image that needs them, when files can no longer be opened.
    for name in ("ImageCms", "ImagePalette", "MpoImagePlugin", "TiffImagePlugin", "WebPImagePlugin"):
        importlib.import_module(f"PIL.{name}")
    register_plugins()
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    warnings.simplefilter("ignore")  # about odd metadata, which is not used
    warnings.simplefilter("error", Image.DecompressionBombWarning)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in a terminal is meant for the parent
    for timer in (signal.SIGPROF, signal.SIGALRM):
        signal.signal(timer, signal.SIG_DFL)  # ends the process even inside C code


def _answer(data: bytes, request: dict[str, Any], address_space: int) -> tuple[dict[str, Any], NDArray[np.uint8]]:
    limits = Limits(**request["limits"])
    Image.MAX_IMAGE_PIXELS = limits.max_pixels
    try:
        with _limited(limits, address_space):
            reply, pixels = _pixels(data, limits, request)
    except ImageError as error:
        if error.error_type == "out_of_memory":
            raise MemoryError from error
        return {"error": [error.error_type, str(error)]}, np.empty(0, np.uint8)
    return reply | {"shape": pixels.shape[:2]}, np.ascontiguousarray(pixels).reshape(-1)


def _pixels(data: bytes, limits: Limits, request: dict[str, Any]) -> tuple[dict[str, Any], NDArray[np.uint8]]:
    if "size" in request:
        size = request["size"] if isinstance(request["size"], int) else tuple(request["size"])  # JSON made it a list
        image = decode(data, limits)
        if request["tile"]:
            size = tile_canvas(image, request["size"], request["tile"])
        canvas, placement = fit(image, size, request["mode"], request["finer"])
        return {"placement": {name: getattr(placement, name) for name in _PLACEMENT}}, canvas
    decoded = read(data, limits)
    return {"format": decoded.format, "turned": decoded.turned}, decoded.pixels


@contextlib.contextmanager
def _limited(limits: Limits, address_space: int) -> Iterator[None]:
    """Ends the process after `limits.decode_seconds`; raises MemoryError over `limits.decode_memory`."""
    if address_space:
        # Limit the address space, not the data segment: that covers every allocator.
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        memory = address_space + limits.decode_memory
        resource.setrlimit(resource.RLIMIT_AS, (memory if hard == resource.RLIM_INFINITY else min(memory, hard), hard))
    signal.setitimer(signal.ITIMER_PROF, limits.decode_seconds)
    signal.setitimer(signal.ITIMER_REAL, limits.decode_seconds * _REAL_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)


def _address_space() -> int:
    """Address space in bytes in use now; 0 off Linux, where memory is not limited."""
    pages = Path("/proc/self/statm")
    return int(pages.read_text().split()[0]) * resource.getpagesize() if pages.exists() else 0


if __name__ == "__main__":
    serve()
