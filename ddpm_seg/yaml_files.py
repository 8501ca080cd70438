"""YAML as people write it: what is wrong is said in one line, and text stays text."""

from __future__ import annotations

from typing import Any

import yaml


def read_yaml(data: bytes) -> tuple[Any, Any]:
    """The content twice: as YAML types it, and with every scalar as it was written.

    YAML takes `no` for false and `1:30` for 90; whoever wants a name looks at the second. Raises ValueError, one line.
    """
    try:
        return yaml.safe_load(data), yaml.load(data, yaml.BaseLoader)
    except yaml.MarkedYAMLError as error:
        tab = "; indent with spaces, not tabs" if "'\\t'" in str(error.problem) else ""
        line = f" in line {error.problem_mark.line + 1}" if error.problem_mark else ""
        said = ", ".join(part for part in (error.context, error.problem) if part)
        raise ValueError(f"it is not YAML: {said}{line}{tab}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ValueError(f"it is not YAML: {' '.join(str(error).split())[:200]}") from error
