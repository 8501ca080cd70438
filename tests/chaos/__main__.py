"""Disturbs the real label or generate job again and again, and tells whether its tables are those of a quiet one.

    python -m tests.chaos --runs 100 --seed 0 --log chaos.jsonl
    python -m tests.chaos --job generate --runs 20 --log chaos-generate.jsonl
    python -m tests.chaos --runs 10 --storage s3 --only "store|node" --log chaos.jsonl

Half of the runs are on local disk, half on an S3 server, with a Ray cluster of one node and of three. `--actors 4`
has so many. Each appends a line to the log; the table at the end is of the whole log. Exit status 1 where a run differs
from an undisturbed one, or undisturbed runs of generate among themselves.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
import signal
import sys
from itertools import islice
from pathlib import Path

from tests.chaos.campaign import Record, deal, disturbed, undisturbed
from tests.chaos.faults import faults_of
from tests.chaos.place import StorageKind, place
from tests.chaos.subject import SUBJECTS, Subject
from tests.chaos.table import table_of


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__.partition("\n")[0])
    parser.add_argument("--job", choices=tuple(SUBJECTS), default="label")
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--log", type=Path, default=Path("chaos.jsonl"), help="logs of failed runs go beside it")
    parser.add_argument("--storage", choices=("local", "s3"), help="one kind alone")
    parser.add_argument("--actors", type=int, help="by default 1 on local disk, and on S3 two nodes with one each")
    parser.add_argument("--only", default="", help="a pattern: faults whose name has it")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))  # an exception: everything started is ended
    kinds: tuple[StorageKind, ...] = (arguments.storage,) if arguments.storage else ("local", "s3")
    for number, kind in enumerate(kinds):
        runs = arguments.runs // len(kinds) + (number < arguments.runs % len(kinds))
        actors = arguments.actors or {"local": 1, "s3": 2}[kind]
        campaign(kind, SUBJECTS[arguments.job], actors, runs, arguments.seed, arguments.only, arguments.log)
    records = [Record(**json.loads(line)) for line in arguments.log.read_text().splitlines()]
    print(table_of(records))
    alike = len({record.reference for record in records if record.job == "generate"}) < 2
    if not alike:
        print("undisturbed runs differ: samples depend on the storage or the number of actors")
    return 0 if alike and all(record.as_quiet for record in records) else 1


def campaign(kind: StorageKind, subject: Subject, actors: int, runs: int, seed: int, only: str, log: Path) -> None:
    """`runs` lines for the log."""
    faults = [fault for fault in faults_of(kind) if re.search(only, str(fault))]
    if not faults or not runs:
        return
    log.parent.mkdir(parents=True, exist_ok=True)
    with place(kind, subject, seed, actors) as here:
        reference = undisturbed(here)
        print(f"{kind}: undisturbed, {len(reference.rows)} images in {reference.seconds:.0f} s", flush=True)
        for number, fault in enumerate(islice(deal(faults, seed), runs)):
            record = disturbed(here, reference, fault, seed * 1000 + number, log.with_suffix(""))
            with log.open("a") as file:
                file.write(json.dumps(dataclasses.asdict(record)) + "\n")
            print(_line(record), flush=True)


def _line(record: Record) -> str:
    outcome = "as undisturbed" if record.as_quiet else f"DIFFERS {record.problems}"
    exits = " ".join(map(str, record.exits))
    again = (
        f"{record.segmented_again} images segmented, {record.begun_again} ({record.done_again}) chunks fetched again"
    )
    return f"{record.storage}: {record.fault}: exits {exits}, {record.seconds:.0f} s, {again}, {outcome}"


if __name__ == "__main__":
    sys.exit(main())
