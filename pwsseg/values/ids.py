"""Ids that go into paths, checked where they come in."""

from __future__ import annotations

import re

from pwsseg.values.errors import InputError

CASE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def check_case_id(case: str) -> str:
    """The id itself; InputError when it is not one."""
    if not CASE_ID.fullmatch(case):
        raise InputError(
            f"case id {case!r} can't be used; ids are 1 to 64 letters, digits, '.', '_' or '-', "
            "beginning with a letter or digit, so rename the file"
        )
    return case
