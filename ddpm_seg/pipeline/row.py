"""The Ray Data row that passes from stage to stage: one chunk."""

from __future__ import annotations

import pickle
from typing import Any

STAGES = ("read", "segment", "write")
"""Stages whose duration is recorded in a row, as `read_seconds` and so on."""

Row = dict[str, Any]
"""Keys: int `shard` and `chunk`; pickled bytes `payload`; float seconds per stage (see `STAGES`); from the actor on
`computed_by`, what its network runs on."""


def chunk_row(shard: int, chunk: int, inputs: list[Any]) -> Row:
    """The row of a chunk before the first stage, with its pickled `inputs` as payload."""
    return {"shard": shard, "chunk": chunk, "payload": pickle.dumps(inputs, protocol=5)}
