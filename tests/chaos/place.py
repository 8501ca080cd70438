"""Where disturbed jobs work: pictures, models and outputs on one kind of storage, and a cluster that can read them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from unittest.mock import patch

from ddpm_seg import storage
from tests.chaos.cluster import ChaosCluster
from tests.chaos.journal import Event, read_journal
from tests.chaos.nursery import Job, Nursery
from tests.chaos.object_store import ChaosStore
from tests.chaos.pictures import write_containers, write_model, write_pictures
from tests.chaos.room import FullStore, Room, small_disk
from tests.chaos.subject import Subject
from tests.faulty_s3 import faulty_s3
from tests.seaweedfs import s3_server

StorageKind = Literal["local", "s3"]
CHECKOUT = Path(__file__).parents[2]
HOOKS = Path(__file__).parent / "hooks"
# Worker nodes at a time, each with one actor.
MOST_JOBS = 2


@dataclass(frozen=True, kw_only=True)
class Place:
    """One kind of storage with a cluster: a single node on a local disk; on S3 one node per actor.

    Under `prefix` are pictures (in), as many others (in-other), the job's model (model, and a copy in model-kept) and
    another model (model-other). `folder` is for logs.
    """

    kind: StorageKind
    subject: Subject
    actors: int
    prefix: str
    folder: Path
    cluster: ChaosCluster
    store: ChaosStore | None
    room: Room
    nursery: Nursery

    def new_output(self) -> str:
        return storage.join(self.prefix, f"out-{uuid.uuid4().hex[:8]}")

    def put_model(self, name: str, files: str = "") -> None:
        """Copies that model, or some of its files, over the job's own one file after another, as `cp` would."""
        for file in list(storage.list_files(storage.join(self.prefix, name))):
            target = storage.join(self.prefix, "model", file.uri.rpartition("/")[2])
            if target.endswith(files):
                storage.write_bytes(target, storage.read_bytes(file.uri))

    @contextmanager
    def job(self, output: str, log: Path, flags: tuple[str, ...] = (), *, forked: bool = True) -> Iterator[Job]:
        """Runs the job as a user would, except that it is `forked` with its imports done; its output goes to `log`."""
        module = self.subject.module
        arguments = self.subject.arguments(self.prefix, output, (f"--num-actors={self.actors}", *flags))
        environment = {"RAY_ADDRESS": self.cluster.address}
        job = (
            self.nursery.start(module, arguments, environment, log)
            if forked
            else _start([sys.executable, "-m", module, *arguments], environment, log)
        )
        try:
            (self.folder / "driver.pid").write_text(str(job.pid))
            yield job
        finally:
            job.kill()
            job.wait()

    def events(self) -> list[Event]:
        return read_journal(self.folder / "journal")

    def forget(self) -> None:
        """Deletes the last run's journal and a trigger that was not used."""
        for name in ("journal", "trigger.json", "fired.json"):
            (self.folder / name).unlink(missing_ok=True)


def _start(command: list[str], environment: dict[str, str], log: Path) -> Job:
    with log.open("wb") as file:
        return subprocess.Popen(
            command,
            cwd=CHECKOUT,
            env={**os.environ, **environment},
            stdout=file,
            stderr=file,
            stdin=subprocess.DEVNULL,
        )


@contextmanager
def place(kind: StorageKind, subject: Subject, seed: int, actors: int) -> Iterator[Place]:
    """Starts everything; afterwards, ends all processes and deletes all files."""
    folder = Path(tempfile.mkdtemp(prefix="ddpm_seg-chaos-"))
    environment = {
        "CHAOS_FOLDER": str(folder),
        "PYTHONPATH": f"{HOOKS}{os.pathsep}{CHECKOUT}",
        "OMP_NUM_THREADS": "1",
        "RAY_AUTH_MODE": "disabled",  # otherwise Ray makes a token in the developer's home
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    }
    try:
        # Set in this process's environment, which the cluster's processes inherit.
        with patch.dict(os.environ, environment), _prefix(kind, folder) as (prefix, store, room):
            write = write_containers if subject.name == "label-tar" else write_pictures
            write(storage.join(prefix, "in"), subject.images, seed)
            write(storage.join(prefix, "in-other"), subject.images, seed + 1)
            for name, number in {"model": 0, "model-kept": 0, "model-other": 1}.items():
                write_model(storage.join(prefix, name), number, gan=subject.name == "generate-gan")
            several = kind == "s3" and actors > 1
            cluster = ChaosCluster(workers=actors) if several else ChaosCluster(actors=max(MOST_JOBS, actors))
            nursery = Nursery(CHECKOUT)
            try:
                yield Place(
                    kind=kind,
                    subject=subject,
                    actors=actors,
                    prefix=prefix,
                    folder=folder,
                    cluster=cluster,
                    store=store,
                    room=room,
                    nursery=nursery,
                )
            finally:
                nursery.close()
                cluster.stop()
    finally:
        time.sleep(1)  # workers may still write to the journal
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _prefix(kind: StorageKind, folder: Path) -> Iterator[tuple[str, ChaosStore | None, Room]]:
    if kind == "local":
        with small_disk(folder / "small") as disk:
            yield str(folder / "data"), None, disk
        return
    with (
        s3_server() as server,
        faulty_s3(server.endpoint) as proxy,
        patch.dict(os.environ, server.environment() | {"AWS_ENDPOINT_URL": proxy.endpoint}),
    ):
        store, prefix = ChaosStore(server), f"s3://{server.bucket}/chaos"
        try:
            yield prefix, store, FullStore(proxy, prefix)
        finally:
            store.close()
