"""What may be wrong with a file: bytes, NIfTI fields, DICOM elements, TOML lines, JSON values, table rows.

Every function takes a `random.Random`: Hypothesis gives one that it can shrink, benchmarks/fuzz.py one that
is made from a seed. What comes back is another file of the same kind, or the wreck of one.
"""

from __future__ import annotations

import copy
import gzip
import json
import re
import struct
from collections.abc import Callable, Sequence
from random import Random
from typing import Any


def _listed(text: str) -> list[str]:
    return text.split("|")


NIFTI_FIELDS = (
    ("sizeof_hdr", 0, "i", 1),
    ("dim_info", 39, "B", 1),
    ("dim", 40, "h", 8),
    ("intent_code", 68, "h", 1),
    ("datatype", 70, "h", 1),
    ("bitpix", 72, "h", 1),
    ("slice_start", 74, "h", 1),
    ("pixdim", 76, "f", 8),
    ("vox_offset", 108, "f", 1),
    ("scl_slope", 112, "f", 1),
    ("scl_inter", 116, "f", 1),
    ("slice_end", 120, "h", 1),
    ("slice_code", 122, "B", 1),
    ("xyzt_units", 123, "B", 1),
    ("cal_max", 124, "f", 1),
    ("toffset", 136, "f", 1),
    ("qform_code", 252, "h", 1),
    ("sform_code", 254, "h", 1),
    ("quatern", 256, "f", 3),
    ("qoffset", 268, "f", 3),
    ("srow", 280, "f", 12),
    ("magic", 344, "B", 4),
    ("extension", 348, "B", 4),
)
"""Name, offset, type and count of the fields that decide anything (https://nifti.nimh.nih.gov/nifti-1)."""

FLOATS = (*map(float, _listed("0|-0|1|-1|0.5|2|352|1e-45|1e-6|1e6|3e38|-3e38|nan|inf|-inf")),)
INTEGERS = {
    kind: tuple(map(int, _listed(said)))
    for kind, said in (
        ("B", "0|1|2|3|8|16|24|127|128|255"),
        ("h", "0|1|2|3|4|5|7|8|16|32|64|128|256|512|768|1024|1280|1536|1792|2048|2304|32767|-1|-32768"),
        ("i", "0|1|348|540|1543569408|-1|2147483647|-2147483648"),
    )
}

NUMBERS: tuple[Any, ...] = (
    *(0, 1, -1, 2, 14, 15, 254, 255, 256, 2**31, 2**63, 2**64, 10**40),
    *(0.5, -0.5, 1e-300, 1e300),
)
NOT_FINITE = (float("nan"), float("inf"), float("-inf"))
STRINGS = (
    *_listed("|.|..|../..|../../etc/passwd|/etc/passwd|a/b|a\\b|-|~|%2e%2e|14|NaN|zarr.json|x.parquet"),
    *_listed("case-a|case-b|case-z|os1|os1.v1|annotation.v1|layer|scan|published|draft"),
    *(" ", "a\0b", "a\nb", "0" * 64, "x" * 300, "\u00e9", "\u202e", "\ud800"),
)
STRUCTURES: tuple[Any, ...] = ([], {}, [None], [[]], {"a": 1}, {"": ""})
VALUES: tuple[Any, ...] = (None, True, False, *NUMBERS, *NOT_FINITE, *STRINGS, *STRUCTURES)
DEEP = 3000
"""Nested so often, an array of JSON or TOML is too deep for a reader that calls itself."""

TOML_VALUES = (
    *_listed(
        "0|1|-1|2|15|1_000_000|0.5|-0.5|1e308|1e999|nan|inf|-inf|0x10|true|false|1979-05-27|07:32:00||="
    ),
    *_listed("''|'..'|'../os1'|'/etc/passwd'|'os1'|'os2'|'scratch'|'annotation'|'plain'|\"\\u0000\""),
    *_listed("[]|[[]]|[0]|[0, 0, 0]|[1, 2, 3]|[1, 1]|[nan, 1.0]|[-1, 1e9, 2]|[24, 48, 48]|[[2, 2, 2]]"),
    *_listed("['os1', 'os1']|{}|{a = 1}|{1 = 0.5}|{99 = 2.0}"),
    *("9" * 25, "9" * 5000, "[" * DEEP),
)


def changed_bytes(chance: Random, data: bytes, *, within: int | None = None) -> bytes:
    """Bytes flipped, cut, left out, doubled or put in; `within`: only among so many of the first."""
    size = min(len(data), within or len(data))
    at = chance.randrange(size + 1)
    to = min(size, at + chance.choice((1, 2, 4, 16, 256)))
    kind = chance.choice(("flip", "flip", "flip", "cut", "drop", "double", "zero", "noise", "behind"))
    if kind == "flip":
        found = bytearray(data)
        for _ in range(chance.choice((1, 1, 2, 8))):
            if size:
                found[chance.randrange(size)] ^= 1 << chance.randrange(8)
        return bytes(found)
    changes: dict[str, Callable[[], bytes]] = {
        "cut": lambda: data[:at],
        "drop": lambda: data[:at] + data[to:],
        "double": lambda: data[:to] + data[at:],
        "zero": lambda: data[:at] + bytes(to - at) + data[to:],
        "noise": lambda: data[:at] + bytes(chance.randrange(256) for _ in range(to - at)) + data[to:],
        "behind": lambda: data + data[at:to],
    }
    return changes[kind]()


def changed_nifti(chance: Random, data: bytes) -> bytes:
    """A .nii in which some fields of the header have extreme values, in either order of bytes."""
    found = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        _, offset, kind, count = chance.choice(NIFTI_FIELDS)
        size = struct.calcsize(kind)
        where = offset + size * chance.randrange(count)
        value = chance.choice(FLOATS) if kind == "f" else chance.choice(INTEGERS[kind])
        found[where : where + size] = struct.pack(f"{chance.choice('<<<>')}{kind}", value)
    return bytes(found)


def zipped(chance: Random, data: bytes) -> bytes:
    """As .nii.gz, which may itself be damaged."""
    whole = gzip.compress(data, 1, mtime=0)
    return changed_bytes(chance, whole) if chance.random() < 0.5 else whole


def changed_dicom(chance: Random, data: bytes) -> bytes:
    """A slice in which an element has another value, length or tag, or is gone; explicit, little-endian."""
    elements = dicom_elements(data)
    if not elements:
        return changed_bytes(chance, data)
    start, value, end = chance.choice(elements)
    kind = chance.choice(("value", "value", "value", "value", "length", "tag", "gone", "doubled"))
    if kind == "value":
        return data[:value] + _same_length(chance, data[value:end]) + data[end:]
    if kind == "length":
        size = 2 if value - start == 8 else 4
        length = chance.choice((0, 1, 7, 2**16 - 1, 2**31, 2**32 - 1)) % (1 << (8 * size))
        return data[: value - size] + length.to_bytes(size, "little") + data[value:]
    if kind == "tag":
        return data[:start] + changed_bytes(chance, data[start:value]) + data[value:]
    return data[:start] + data[end:] if kind == "gone" else data[:end] + data[start:]


def dicom_elements(data: bytes) -> list[tuple[int, int, int]]:
    """Start, start of the value and end of each element before the pixels."""
    found, at = [], 132
    while at + 12 <= len(data):
        long = data[at + 4 : at + 6] in (b"OB", b"OW", b"OF", b"SQ", b"UT", b"UN", b"UC", b"UR")
        value = at + (12 if long else 8)
        end = (
            value
            + (struct.unpack_from("<I", data, at + 8) if long else struct.unpack_from("<H", data, at + 6))[0]
        )
        if end > len(data):
            break
        found.append((at, value, end))
        at = end
    return found


def _same_length(chance: Random, value: bytes) -> bytes:
    """Another value that takes as many bytes: numbers, text, lists of numbers or noise."""
    said = chance.choice(
        (b"0", b"-1", b"1e30", b"1e999", b"nan", b"inf", b"1\\0\\0\\0\\1\\0", b"0\\0\\0\\0\\0\\0", b"CT")
    )
    choices = (
        said,
        b"\\" * len(value),
        b"\xff" * len(value),
        b"\0" * len(value),
        changed_bytes(chance, value),
    )
    return chance.choice(choices)[: len(value)].ljust(len(value), b" ")


def changed_toml(chance: Random, text: str) -> str:
    """A settings file with another value, key, line or table somewhere."""
    lines = text.splitlines()
    for _ in range(chance.choice((1, 1, 2))):
        said = [i for i, line in enumerate(lines) if "=" in line and not line.lstrip().startswith("#")]
        at = chance.choice(said or [0])
        key = lines[at].partition("=")[0].strip()
        value = chance.choice(TOML_VALUES)
        lines[at] = chance.choice(
            (
                *[f"{key} = {value}"] * 6,
                "",
                f"{key}x = 1",
                f"{lines[at]}\n{lines[at]}",
                f"[{key}]",
                lines[at][:-1],
            )
        )
    whole = "\n".join(lines)
    return whole if chance.random() < 0.9 else changed_bytes(chance, whole.encode()).decode("latin-1")


def changed_json(chance: Random, data: bytes) -> bytes:
    """A JSON document with another value, key or depth somewhere; broken text now and then."""
    if chance.random() < 0.1:
        return changed_bytes(chance, data)
    if chance.random() < 0.03:
        return chance.choice((b"[", b'{"pwsseg":')) * DEEP
    document = json.loads(data)
    for _ in range(chance.choice((1, 1, 2))):
        document = _changed_value(chance, document)
    text = json.dumps(document)
    if chance.random() < 0.05:
        text = re.sub(r"(?<![\"\w.])[0-9]+(?![\"\w.])", "9" * 5000, text, count=1)
    return text.encode()


def _changed_value(chance: Random, document: Any) -> Any:
    """The document with one node replaced, gone, renamed or doubled; small parts as likely as large ones."""
    whole = copy.deepcopy(document)
    holders = [node for node in _nodes(whole) if isinstance(node, dict | list) and node]
    if not holders:
        return chance.choice(VALUES)
    holder = chance.choice(holders)
    key = chance.choice(list(holder) if isinstance(holder, dict) else range(len(holder)))
    kind = chance.choice(("value", "value", "value", "value", "gone", "more", "wrap"))
    if kind == "value":
        holder[key] = copy.deepcopy(chance.choice(VALUES))
    elif kind == "gone":
        del holder[key]
    elif kind == "wrap":
        holder[key] = chance.choice(([holder[key]], {"a": holder[key]}, str(holder[key])))
    elif isinstance(holder, dict):
        holder[chance.choice(STRINGS)] = copy.deepcopy(holder[key])
    else:
        holder.extend(copy.deepcopy([holder[key]] * chance.choice((1, 100))))
    return whole


def _nodes(document: Any) -> list[Any]:
    """Every value of a document, itself first."""
    found, waiting = [], [document]
    while waiting:
        node = waiting.pop()
        found.append(node)
        waiting += list(node.values()) if isinstance(node, dict) else node if isinstance(node, list) else []
    return found


def changed_rows(chance: Random, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """A table in which a column has other values, another name, or is gone; or a row comes twice or not."""
    found = [dict(row) for row in rows]
    column = chance.choice(list(found[0]))
    kind = chance.choice(("value", "value", "value", "name", "gone", "twice", "fewer"))
    if kind == "value":
        value = chance.choice(
            (*NUMBERS[:12], *NOT_FINITE, *STRINGS[:-1], None, True, [], [1, 2], ["a"], [None])
        )
        for row in found:
            row[column] = value
    elif kind in ("name", "gone"):
        for row in found:
            value = row.pop(column)
            if kind == "name":
                row[chance.choice(("", "x", "case", "digest", "voxels_1"))] = value
    else:
        found = found * 2 if kind == "twice" else found[1:]
    return found
