"""Text files that people or programs wrote."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pwsseg.values import InputError


def parse_json(path: Path, text: str, *, pairs: Callable[[list[tuple[str, Any]]], Any] | None = None) -> Any:
    """The JSON value in `text`, which is that of the file `path`; `pairs` makes what stands for objects.

    InputError, with the line where there is one, when it is no JSON, nested too deeply or has a number of
    thousands of digits.
    """
    try:
        return json.loads(text, object_pairs_hook=pairs)
    except json.JSONDecodeError as error:
        raise InputError(f"{path}, line {error.lineno} is no JSON ({error.msg}); correct it") from error
    except (ValueError, RecursionError) as error:
        reason = (
            "a number with too many digits"
            if isinstance(error, ValueError)
            else "brackets too deep to follow"
        )
        raise InputError(f"{path} can't be read as JSON: it has {reason}; correct it") from error
