"""Loaded by every Python that starts with this folder on PYTHONPATH: the job's process and Ray's workers.

Writes a line to $CHAOS_FOLDER/journal before and after each call of `ddpm_seg.storage`'s functions, and for each batch
of images that a network starts. If $CHAOS_FOLDER/trigger.json names a call, the process that makes it, or the driver,
is killed there, or the call is delayed until fired.json is deleted. That happens once: the trigger is removed first.
"""

from __future__ import annotations

import functools
import importlib.machinery
import importlib.util
import json
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from importlib.abc import MetaPathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

WATCHED = ("create_bytes", "write_bytes", "delete", "read_bytes")
# For "during" on S3: seconds from the start of a call to the death of its caller. A call takes some milliseconds.
SECONDS_INTO_REQUEST = 0.003
LONGEST_HOLD_SECONDS = 60.0

folder = Path(os.environ.get("CHAOS_FOLDER", ""))


class WatchImports(MetaPathFinder):
    """Wraps functions of modules when these are imported; importing them here would slow down every process."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name not in WRAPPERS:
            return None
        wrap = WRAPPERS.pop(name)
        spec = importlib.util.find_spec(name)
        assert spec is not None
        assert spec.loader is not None
        load = spec.loader.exec_module

        def load_and_wrap(module: ModuleType) -> None:
            load(module)
            wrap(module)

        spec.loader.exec_module = load_and_wrap  # type: ignore[method-assign]
        return spec


def watch_storage(module: Any) -> None:
    for call in WATCHED:
        setattr(module, call, watched(call, getattr(module, call)))


def watch_segmenter(module: Any) -> None:
    segment = module.Segmenter.segment

    @functools.wraps(segment)
    def wrapper(self: Any, images: Any, *arguments: Any, **options: Any) -> Any:
        note("segment", "before", str(len(images)))
        return segment(self, images, *arguments, **options)

    module.Segmenter.segment = wrapper
    segment_maps = module.Segmenter.segment_maps

    @functools.wraps(segment_maps)
    def maps_wrapper(self: Any, maps: Any) -> Any:
        note("segment", "before", str(len(maps[0])))
        return segment_maps(self, maps)

    module.Segmenter.segment_maps = maps_wrapper


def watch_members(module: Any) -> None:
    read_places = module.read_places

    @functools.wraps(read_places)
    def wrapper(places: Any, max_bytes: int) -> Any:
        note("read_places", "before", f"{places[0].container.uri}#{places[0].name}")
        return read_places(places, max_bytes)

    module.read_places = wrapper


WRAPPERS = {
    "ddpm_seg.storage.files": watch_storage,
    "ddpm_seg.model.segmenter": watch_segmenter,
    "ddpm_seg.data.inputs.members": watch_members,
}


def watched(call: str, function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(uri: str, *arguments: Any, **options: Any) -> Any:
        note(call, "before", uri)
        strike(call, "before", uri)
        if victim := triggered(call, "during", uri):
            die_inside(uri, victim)
        result = function(uri, *arguments, **options)
        strike(call, "after", uri)
        note(call, "after", uri)
        return result

    return wrapper


def note(call: str, when: str, subject: str) -> None:
    line = json.dumps({"time": time.time(), "pid": os.getpid(), "call": call, "when": when, "subject": subject}) + "\n"
    descriptor = os.open(folder / "journal", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, line.encode())  # a single write, so that lines of parallel processes stay whole
    os.close(descriptor)


def strike(call: str, when: str, uri: str) -> None:
    if victim := triggered(call, when, uri):
        kill(victim)


def triggered(call: str, when: str, uri: str) -> str | None:
    """The process to kill, if the trigger names this call and no other process has taken it."""
    try:
        trigger = json.loads((folder / "trigger.json").read_text())
        if (trigger["call"], trigger["when"]) != (call, when) or not re.search(trigger["uri"], uri):
            return None
        (folder / "trigger.json").rename(folder / "firing.json")
    except FileNotFoundError:
        return None
    (folder / "firing.json").write_text(json.dumps({**trigger, "uri": uri}))
    (folder / "firing.json").rename(folder / "fired.json")
    return trigger["victim"]


def kill(victim: str) -> None:
    if victim == "hold":
        end = time.monotonic() + LONGEST_HOLD_SECONDS
        while (folder / "fired.json").exists() and time.monotonic() < end:
            time.sleep(0.01)
        return
    pid = int((folder / "driver.pid").read_text()) if victim == "driver" else os.getpid()
    os.kill(pid, signal.SIGKILL)


def die_inside(uri: str, victim: str) -> None:
    """Kills during a write: on local disk when the temporary file is written but not renamed, on S3 with the request
    sent."""
    if "://" in uri:
        threading.Timer(SECONDS_INTO_REQUEST, kill, [victim]).start()
    else:
        os.fsync = lambda _: kill(victim)  # type: ignore[assignment]


if "CHAOS_FOLDER" in os.environ:  # not set in the process that decodes images
    sys.meta_path.insert(0, WatchImports())
