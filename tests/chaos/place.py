"""Where disturbed jobs work: pictures, a model and outputs on one kind of storage, and a cluster that sees them."""

from __future__ import annotations

import os
import shutil
import subprocess
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
from tests.chaos.object_store import ChaosStore
from tests.chaos.pictures import write_model, write_pictures
from tests.chaos.subject import Subject
from tests.seaweedfs import s3_server

StorageKind = Literal["local", "s3"]
CHECKOUT = Path(__file__).parents[2]
HOOKS = Path(__file__).parent / "hooks"


@dataclass(frozen=True, kw_only=True)
class Place:
    """One kind of storage with a cluster: of one node for local disk, else one for each actor. `folder` is for logs."""

    kind: StorageKind
    subject: Subject
    actors: int
    prefix: str
    folder: Path
    cluster: ChaosCluster
    store: ChaosStore | None

    def new_output(self) -> str:
        return storage.join(self.prefix, f"out-{uuid.uuid4().hex[:8]}")

    @contextmanager
    def job(self, output: str, log: Path) -> Iterator[subprocess.Popen[bytes]]:
        """The job as anyone would start it, until the block ends; what it says goes to `log`."""
        environment = {**os.environ, "RAY_ADDRESS": self.cluster.address}
        with log.open("wb") as file:
            job = subprocess.Popen(
                self.subject.command(self.prefix, output),
                cwd=CHECKOUT,
                env=environment,
                stdout=file,
                stderr=file,
                stdin=subprocess.DEVNULL,
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
        """Of the last run, its journal and a trigger that nobody met."""
        for name in ("journal", "trigger.json", "fired.json"):
            (self.folder / name).unlink(missing_ok=True)


@contextmanager
def place(kind: StorageKind, subject: Subject, seed: int, actors: int) -> Iterator[Place]:
    """Starts everything; at the end all processes and files are gone."""
    folder = Path(tempfile.mkdtemp(prefix="ddpm_seg-chaos-"))
    environment = {
        "CHAOS_FOLDER": str(folder),
        "PYTHONPATH": f"{HOOKS}{os.pathsep}{CHECKOUT}",
        "OMP_NUM_THREADS": "1",
        "RAY_AUTH_MODE": "disabled",  # else Ray makes a token in the developer's home
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    }
    try:
        # In this process's environment, because a cluster's processes take theirs from it.
        with patch.dict(os.environ, environment), _prefix(kind, folder) as (prefix, store):
            write_pictures(storage.join(prefix, "in"), subject.images, seed)
            write_model(storage.join(prefix, "model"))
            cluster = ChaosCluster(actors=actors) if kind == "local" else ChaosCluster(workers=actors)
            try:
                yield Place(
                    kind=kind,
                    subject=subject,
                    actors=actors,
                    prefix=prefix,
                    folder=folder,
                    cluster=cluster,
                    store=store,
                )
            finally:
                cluster.stop()
    finally:
        time.sleep(1)  # workers may still write to the journal
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _prefix(kind: StorageKind, folder: Path) -> Iterator[tuple[str, ChaosStore | None]]:
    if kind == "local":
        yield str(folder / "data"), None
        return
    with s3_server() as server, patch.dict(os.environ, server.environment()):
        store = ChaosStore(server)
        try:
            yield f"s3://{server.bucket}/chaos", store
        finally:
            store.close()
