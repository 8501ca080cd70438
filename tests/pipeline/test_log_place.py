"""Log lines of workers say which chunk they are about."""

from __future__ import annotations

import subprocess
import sys

WORKER = """
import logging
from concurrent.futures import ThreadPoolExecutor
from ddpm_seg.pipeline.log_place import log_as

logger = logging.getLogger("ddpm_seg.data.decoding.decoder")
for shard in (3, 4):
    log_as("run-000012", shard, 7)
    logger.warning("before %d", shard)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(logger.warning, "in a thread of %d", shard)
logging.getLogger("others").warning("of somebody else")
"""


def test_each_line_names_run_shard_and_chunk_once() -> None:
    said = subprocess.run([sys.executable, "-c", WORKER], capture_output=True, text=True, check=True).stderr
    lines = [line.partition(" ")[2] for line in said.splitlines() if "shard" in line]
    assert lines == [
        "run-000012 shard-00003 chunk-0007: before 3",
        "run-000012 shard-00003 chunk-0007: in a thread of 3",
        "run-000012 shard-00004 chunk-0007: before 4",
        "run-000012 shard-00004 chunk-0007: in a thread of 4",
    ]
    assert said.splitlines()[-1] == "of somebody else"
