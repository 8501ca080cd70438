"""Runs the real label or generate job many times, disturbs each run once, and checks that its tables are still right.

    python -m tests.chaos --runs 100 --seed 0 --log chaos.jsonl
    python -m tests.chaos --job generate --runs 20 --log chaos-generate.jsonl
    python -m tests.chaos --job label-tar --images 60 --runs 20 --log chaos-tar.jsonl    # tars and a Parquet table
    python -m tests.chaos --runs 10 --storage s3 --only "store|node" --log chaos.jsonl
    python -m tests.chaos --each 5 --images 60 --only "SIGTERM|spoilt" --log chaos.jsonl    # stopped, it continues

Half of the runs are on a local disk with a Ray cluster of one node, half on an S3 server with one of three nodes;
`--actors` changes the number of actors. Each run appends a line to the log; the table at the end covers the whole log.
Exit status 1 if a disturbed run differs from an undisturbed one, or if undisturbed runs of generate differ.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
import signal
import sys
import traceback
from collections import Counter
from itertools import islice
from pathlib import Path

from tests.chaos.campaign import Record, deal, deal_evenly, disturbed
from tests.chaos.faults import faults_of
from tests.chaos.place import StorageKind, place
from tests.chaos.reference import References
from tests.chaos.subject import SUBJECTS
from tests.chaos.table import table_by_strike, table_of


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__.partition("\n")[0])
    parser.add_argument("--job", choices=tuple(SUBJECTS), default="label")
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--each", type=int, help="instead of --runs: every kind of fault so often, less what is logged")
    parser.add_argument("--images", type=int, help="few images, in small chunks; by default a thousand or nearly")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--log", type=Path, default=Path("chaos.jsonl"), help="logs of failed runs go beside it")
    parser.add_argument("--storage", choices=("local", "s3"), help="one kind alone")
    parser.add_argument("--actors", type=int, help="by default 1; on S3 2, and a node for each where there are several")
    parser.add_argument("--only", default="", help="a pattern: faults whose name has it")
    arguments = parser.parse_args()
    signal.signal(
        signal.SIGTERM, lambda *_: sys.exit("terminated")
    )  # an exception, so that everything started is ended
    kinds: tuple[StorageKind, ...] = (arguments.storage,) if arguments.storage else ("local", "s3")
    for number, kind in enumerate(kinds):
        runs = arguments.runs // len(kinds) + (number < arguments.runs % len(kinds))
        campaign(kind, arguments, arguments.each or runs)
    records = read_log(arguments.log)
    print(table_of(records))
    print(table_by_strike(records))
    drawn = [record for record in records if not record.job.startswith("label")]
    digests = {(record.job, record.images, record.reference) for record in drawn}
    alike = len(digests) == len({(job, images) for job, images, _ in digests})
    if not alike:
        print("undisturbed runs differ: samples depend on the storage or the number of actors")
    return 0 if alike and all(record.as_quiet for record in records) else 1


def campaign(kind: StorageKind, arguments: argparse.Namespace, number: int) -> None:
    """Appends `number` runs to the log, or with --each that many of each kind of fault."""
    subject, log = SUBJECTS[arguments.job], arguments.log
    if arguments.images:
        subject = subject.short(arguments.images)
    actors = arguments.actors or {"local": 1, "s3": 2}[kind]
    every = faults_of(kind, subject.name, several_nodes=kind == "s3" and actors > 1)
    faults = [fault for fault in every if re.search(arguments.only, str(fault))]
    here = [record for record in read_log(log) if (record.storage, record.job) == (kind, subject.name)]
    if arguments.each:
        done = Counter(record.kind for record in here)
        hand = list(deal_evenly(faults, number, done))
    else:
        hand = list(islice(deal(faults, arguments.seed), number))
    if not hand:
        return
    log.parent.mkdir(parents=True, exist_ok=True)
    with place(kind, subject, arguments.seed, actors) as there:
        references = References(there)
        quiet = references.of()
        print(f"{kind}: undisturbed, {len(quiet.rows)} images in {quiet.seconds:.0f} s", flush=True)
        for turn, fault in enumerate(hand, len(here) if arguments.each else 0):
            try:
                record = disturbed(there, references, fault, arguments.seed * 1000 + turn, log.with_suffix(""))
            except Exception:  # an error of the harness: lose one run, not hours of others
                print(f"{kind}: {fault}: {traceback.format_exc()}", flush=True)
                continue
            with log.open("a") as file:
                file.write(json.dumps(dataclasses.asdict(record)) + "\n")
            print(_line(record), flush=True)


def read_log(log: Path) -> list[Record]:
    return [Record(**json.loads(line)) for line in log.read_text().splitlines()] if log.exists() else []


def _counts(record: Record) -> str:
    lost, doubled = f"{record.lost} lost", f"{record.doubled} doubled"
    return f"{lost}, {doubled}, {record.differing} different, {record.wrong_model} under a wrong model_id"


def _line(record: Record) -> str:
    outcome = "as undisturbed" if record.as_quiet else f"DIFFERS {_counts(record)} {record.problems}"
    exits = " ".join(map(str, record.exits))
    again = (
        f"{record.segmented_again} images segmented, {record.begun_again} ({record.done_again}) chunks fetched again"
    )
    return f"{record.job}, {record.storage}: {record.fault}: exits {exits}, {record.seconds:.0f} s, {again}, {outcome}"


if __name__ == "__main__":
    sys.exit(main())
