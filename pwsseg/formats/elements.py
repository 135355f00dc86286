"""Whether a DICOM file can hold what its elements promise; looked at before GDCM reads it.

GDCM takes memory for an element by the length that stands before it, and fills it with zeros, before it looks
how long the file is; what it took so, it does not give back. Measured: a file of 2.4 kB with a damaged header
took 740 MB. Nothing else is judged here: GDCM takes many files that are not quite by the rules.

Reference: DICOM PS3.5, section 7 (data elements, sequences) and annex A (transfer syntaxes).
"""

from __future__ import annotations

import struct
from pathlib import Path

from pwsseg.values import InputError

NO_IMAGE = (
    "{path} is no whole DICOM image (truncated, or without its metadata); copy the series again, or take the "
    "file away if it does not belong to it"
)
PREFIX = slice(128, 132)
SHORT = frozenset(b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())
LONG = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
"""Kinds of value; the length of these has four bytes, behind two empty ones."""
UNDEFINED = 0xFFFFFFFF
META = b"\2\0"
ITEMS = 0xFFFE
ITEM, END_OF_ITEMS = (0xFFFE, 0xE000), (0xFFFE, 0xE0DD)
SYNTAX, PIXELS = (0x0002, 0x0010), (0x7FE0, 0x0010)
IMPLICIT, BIG_ENDIAN, DEFLATED = (f"1.2.840.10008.1.2{ending}" for ending in ("", ".2", ".1.99"))


def check_lengths(path: Path) -> None:
    """InputError when the file has no metadata, or an element at any depth is longer than what is left of it.

    What is packed as a whole (the deflated transfer syntax) is not looked into.
    """
    data = path.read_bytes()
    if data[PREFIX] != b"DICM" or data[132:134] != META:  # GDCM would guess how its elements are written
        raise InputError(NO_IMAGE.format(path=path))
    at, syntax, fragments = 132, "", False
    unclosed, until = 0, 0  # sequences that an end tag closes, and where those end that say their length
    while at + 8 <= len(data):
        meta = data[at : at + 2] == META
        if syntax == DEFLATED and not meta:
            return
        order = ">" if syntax == BIG_ENDIAN and not meta else "<"
        tag = struct.unpack_from(f"{order}2H", data, at)
        start, length = _value(data, at, order, plain=(syntax == IMPLICIT and not meta) or tag[0] == ITEMS)
        if length != UNDEFINED and start + length > len(data):
            raise InputError(
                f"{path} is no whole DICOM image: its element {tag[0]:04x},{tag[1]:04x} promises {length} "
                f"bytes and {max(0, len(data) - start)} are left; copy the series again"
            )
        if tag[0] == ITEMS and not unclosed and at >= until:  # GDCM would take an item's length for another
            raise InputError(NO_IMAGE.format(path=path))
        if tag == SYNTAX:
            syntax = data[start : start + length].decode("latin-1").strip(" \0")
        fragments = (tag == PIXELS and length == UNDEFINED) or (fragments and tag != END_OF_ITEMS)
        sequence = tag[0] != ITEMS and (length == UNDEFINED or _is_sequence(data, start, length, order))
        unclosed = max(0, unclosed + (sequence and length == UNDEFINED) - (tag == END_OF_ITEMS))
        until = max(until, start + length) if sequence and length != UNDEFINED else until
        inside = sequence or length == UNDEFINED or (tag == ITEM and not fragments)
        at = start if inside else start + length


def _value(data: bytes, at: int, order: str, *, plain: bool) -> tuple[int, int]:
    """Where an element's value begins, and its length; `plain`: no kind stands before the length."""
    kind = data[at + 4 : at + 6]
    if plain or kind not in SHORT | LONG:
        return at + 8, struct.unpack_from(f"{order}I", data, at + 4)[0]
    if kind not in LONG:
        return at + 8, struct.unpack_from(f"{order}H", data, at + 6)[0]
    return at + 12, struct.unpack_from(f"{order}I", data.ljust(at + 12, b"\0"), at + 8)[0]


def _is_sequence(data: bytes, start: int, length: int, order: str) -> bool:
    return length >= 8 and data[start : start + 4] == struct.pack(f"{order}2H", *ITEM)
