"""The steps in which a run is planned and published; kills or delays a process just before, during or after each."""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from tests.chaos.trial import Scene

When = Literal["before", "during", "after"]
Victim = Literal["self", "driver", "hold"]
WHENS: tuple[When, ...] = ("before", "during", "after")


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """A call to a function of `ddpm_seg.storage`. `uri` is a pattern; its SHARD and CHUNK are numbers drawn for each
    run."""

    name: str
    call: str
    uri: str
    in_worker: bool = False
    of_containers: bool = False
    """Whether only runs with containers take it."""

    @property
    def victims(self) -> tuple[Victim, ...]:
        return ("self", "driver") if self.in_worker else ("self",)


SHARD = r"/.*/shard-SHARD\.parquet$"
STEPS = (
    Step(name="probe written", call="create_bytes", uri=r"/\.ddpm_seg-[0-9a-f]+\.tmp$"),
    Step(name="manifest created", call="create_bytes", uri=r"/manifest\.parquet$"),
    Step(name="heartbeat created", call="create_bytes", uri=r"/heartbeat\.json$"),
    Step(name="run.json created", call="create_bytes", uri=r"/run\.json$"),
    Step(
        name="container looked into",
        call="create_bytes",
        uri=r"/containers/shard-\d+\.parquet$",
        in_worker=True,
        of_containers=True,
    ),
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
    Step(name="report written", call="write_bytes", uri=r"/report\.html$"),
    Step(name="chunks deleted", call="delete", uri=r"/_chunks/run=[^/]+$"),
    Step(name="heartbeat deleted", call="delete", uri=r"/heartbeat\.json$"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Trap:
    """Kills `victim` (the process that takes the step, or the job's driver) `when` the step is taken.

    "hold" delays the step until `release` instead. `hooks` carries it out.
    """

    step: Step
    when: When
    victim: Victim

    def spring(self, scene: Scene) -> str | None:
        """Waits until the step is taken, or the job has ended without it; returns the URI of the step."""
        folder = scene.place.folder
        shard, chunk = scene.generator.choice(scene.plan)
        uri = re.escape(scene.output) + ".*" + self.step.uri
        uri = uri.replace("SHARD", f"{shard:05d}").replace("CHUNK", f"{chunk:04d}")
        trigger = {"call": self.step.call, "when": self.when, "uri": uri, "victim": self.victim}
        (folder / "armed.json").write_text(json.dumps(trigger))
        (folder / "armed.json").rename(folder / "trigger.json")
        fired = folder / "fired.json"
        while not fired.exists() and scene.job.poll() is None:
            time.sleep(0.02)
        (folder / "trigger.json").unlink(missing_ok=True)
        return str(json.loads(fired.read_text())["uri"]) if fired.exists() else None

    @staticmethod
    def release(scene: Scene) -> None:
        """Lets a delayed step continue."""
        (scene.place.folder / "fired.json").unlink(missing_ok=True)


def step(name: str) -> Step:
    """The step of `STEPS` with this name."""
    (found,) = (step for step in STEPS if step.name == name)
    return found
