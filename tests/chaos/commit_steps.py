"""The steps by which a run comes into being and is published, and death exactly before, in and after each."""

from __future__ import annotations

import json
import random
import re
import time
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen
from typing import Literal

When = Literal["before", "during", "after"]
Victim = Literal["self", "driver"]
WHENS: tuple[When, ...] = ("before", "during", "after")


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """A call to `ddpm_seg.storage`: `uri` is a pattern, in which SHARD and CHUNK are numbers drawn for each run."""

    name: str
    call: str
    uri: str
    in_worker: bool = False

    @property
    def victims(self) -> tuple[Victim, ...]:
        return ("self", "driver") if self.in_worker else ("self",)


SHARD = r"/.*/shard-SHARD\.parquet$"
STEPS = (
    Step(name="probe written", call="create_bytes", uri=r"/\.ddpm_seg-[0-9a-f]+\.tmp$"),
    Step(name="manifest created", call="create_bytes", uri=r"/manifest\.parquet$"),
    Step(name="heartbeat created", call="create_bytes", uri=r"/heartbeat\.json$"),
    Step(name="run.json created", call="create_bytes", uri=r"/run\.json$"),
    Step(name="chunk written", call="create_bytes", uri=r"/shard-SHARD/chunk-CHUNK\.parquet$", in_worker=True),
    Step(
        name="shard published", call="create_bytes", uri=r"/(labels|samples)/.*/shard-SHARD\.parquet$", in_worker=True
    ),
    Step(
        name="class_stats derived",
        call="create_bytes",
        uri=r"/(sample_)?class_stats/.*/shard-SHARD\.parquet$",
        in_worker=True,
    ),
    Step(name="chunks of a shard deleted", call="delete", uri=r"/_chunks/run=[^/]+/shard-SHARD$", in_worker=True),
    Step(name="summary written", call="write_bytes", uri=r"/summary\.json$"),
    Step(name="chunks deleted", call="delete", uri=r"/_chunks/run=[^/]+$"),
    Step(name="report written", call="write_bytes", uri=r"/report\.html$"),
    Step(name="heartbeat deleted", call="delete", uri=r"/heartbeat\.json$"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Trap:
    """Kills `victim`, who takes the step or the job's driver, `when` the step is taken; `hooks` does it."""

    step: Step
    when: When
    victim: Victim

    def spring(self, folder: Path, output: str, job: Popen[bytes], generator: random.Random) -> bool:
        """Waits until it has, or the job has ended without meeting it; whether it has."""
        uri = self.step.uri.replace("SHARD", f"{generator.randrange(6):05d}")
        uri = re.escape(output) + ".*" + uri.replace("CHUNK", f"{generator.randrange(7):04d}")
        trigger = {"call": self.step.call, "when": self.when, "uri": uri, "victim": self.victim}
        (folder / "armed.json").write_text(json.dumps(trigger))
        (folder / "armed.json").rename(folder / "trigger.json")
        while not (fired := (folder / "fired.json").exists()) and job.poll() is None:
            time.sleep(0.05)
        (folder / "trigger.json").unlink(missing_ok=True)
        return fired or (folder / "fired.json").exists()
