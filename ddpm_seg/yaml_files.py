"""Reads YAML that people write: errors are one line, and the original spelling of every value is kept."""

from __future__ import annotations

from typing import Any

import yaml


def read_yaml(data: bytes) -> tuple[Any, Any]:
    """Returns the content twice: with YAML's types, and with every scalar as the text that was written.

    YAML reads `no` as false and `1:30` as 90; use the second result where text is wanted. Raises ValueError with a
    one-line message if it is not YAML.
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
