"""What a case may be called: an id becomes a folder in the store and a file name when it leaves it."""

from __future__ import annotations

import re

from pwsseg.values.errors import InputError, shown

CASE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""The whole id must match, so no id can climb out of a folder, hide as a dot file or hold a space."""


def check_case_id(case: str) -> str:
    """`case` itself; InputError when it is no case id."""
    if not CASE_ID.fullmatch(case):
        raise InputError(
            f"{shown(case)} is no case id: expected 1 to 64 letters, digits, '.', '_' or '-', the first of "
            "them a letter or digit; rename the file or folder"
        )
    return case
