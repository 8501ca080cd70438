"""Reads other tools' JSON into checked objects, or reports the first error in one line."""

from __future__ import annotations

import json
from typing import Any, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError

from ddpm_seg import storage
from ddpm_seg.data.annotations.errors import AnnotationError

# The largest public file, LVIS's, has 1.2 GB.
MAX_JSON_BYTES = 2_000_000_000

T = TypeVar("T", bound=BaseModel)


def read_json(uri: str) -> Any:
    """The content of a JSON file. Raises AnnotationError if it is not JSON."""
    try:
        return json.loads(storage.read_bytes(uri, max_bytes=MAX_JSON_BYTES).removeprefix(b"\xef\xbb\xbf"))
    except RecursionError:
        raise AnnotationError(f"{storage.redact(uri)} is nested too deeply") from None
    except ValueError as error:
        raise AnnotationError(f"{storage.redact(uri)} is not JSON ({error})") from None


def checked(uri: str, content: object, expected: type[T], what: str) -> T:
    """`content` as an `expected`. Raises AnnotationError naming the first wrong value and the number of further
    problems."""
    try:
        return TypeAdapter(expected).validate_python(content)
    except ValidationError as error:
        problems = error.errors(include_url=False)
        where = ".".join(str(key) for key in problems[0]["loc"])
        message = problems[0]["msg"][0].lower() + problems[0]["msg"][1:]
        more = f", and {len(problems) - 1} more problems" if len(problems) > 1 else ""
        raise AnnotationError(
            f"{storage.redact(uri)} is not {what}: {where or 'the file'}: {message}{more}".replace("\n", " ")
        ) from None
