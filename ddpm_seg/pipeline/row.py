"""What goes from stage to stage: one chunk."""

from __future__ import annotations

import pickle
from typing import Any

STAGES = ("read", "segment", "write")
"""What a row has the seconds of."""

Row = dict[str, Any]
"""int `shard`, `chunk`; bytes `payload`; seconds by stage."""


def chunk_row(shard: int, chunk: int, inputs: list[Any]) -> Row:
    """The first stage's input."""
    return {"shard": shard, "chunk": chunk, "payload": pickle.dumps(inputs, protocol=5)}
