"""What goes from stage to stage: one chunk."""

from __future__ import annotations

from typing import Any

STAGES = ("read", "segment", "write")
"""What a row has the seconds of."""

Row = dict[str, Any]
"""int `shard`, `chunk`; bytes `payload`; seconds by stage."""
