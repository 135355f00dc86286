"""The table that states which classes are annotated in which case: CSV or JSON.

    case,classes                 {"ts": [1, 2, 3],
    ts,1 2 3                      "gate449": []}
    gate449,

An empty list says that nothing is annotated in the case.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pwsseg.formats.text import parse_json
from pwsseg.values import FLARE23, InputError, LabelSet, shown
from pwsseg.values.ids import check_case_id

COLUMNS = ["case", "classes"]


def read_annotated(path: Path, label_set: LabelSet = FLARE23) -> dict[str, frozenset[int]]:
    """The annotated classes of each case in a .csv or .json table.

    InputError, with the line in a CSV, when the file is missing or malformed, a case comes twice or is no
    case id, or a class is not in `label_set`.
    """
    readers = {".csv": _csv_rows, ".json": _json_rows}
    if path.suffix.lower() not in readers:
        raise InputError(
            f"{path} is no table of annotated classes by its name, expected .csv or .json; convert it"
        )
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path} can't be read as a table ({error}); check the path and save it as UTF-8"
        ) from error
    table: dict[str, frozenset[int]] = {}
    for where, case, ids in readers[path.suffix.lower()](path, text):
        if case in table:
            raise InputError(
                f"{where} names case {shown(case)} a second time, expected one row a case; merge the rows"
            )
        try:
            check_case_id(case)
        except InputError as error:
            raise InputError(f"{where}: {error}") from error
        table[case] = _classes(where, ids, label_set)
    return table


def _csv_rows(path: Path, text: str) -> Iterable[tuple[str, str, list[Any]]]:
    try:
        yield from _read_rows(path, csv.reader(text.splitlines(), skipinitialspace=True))
    except csv.Error as error:
        raise InputError(f"{path} can't be read as a table ({error}); correct it") from error


def _read_rows(path: Path, reader: Any) -> Iterable[tuple[str, str, list[Any]]]:
    header = [cell.strip() for cell in next(reader, [])]
    if header != COLUMNS:
        raise InputError(
            f"{path}, line 1 is {shown(','.join(header))}, expected the header 'case,classes'; add it"
        )
    for row in reader:
        where = f"{path}, line {reader.line_num}"
        if not row:
            continue
        if len(row) != 2:
            raise InputError(
                f"{where} has {len(row)} cells, expected 2 (case, ids separated by spaces); correct it"
            )
        yield where, row[0].strip(), row[1].split()


def _json_rows(path: Path, text: str) -> Iterable[tuple[str, str, list[Any]]]:
    # Pairs, since a dict would hide a case that comes twice.
    pairs = parse_json(path, text, pairs=list)
    if not text.lstrip().startswith("{"):
        raise InputError(f"{path} is no JSON object, expected {{case: [ids]}}; write it so")
    for case, ids in pairs:
        if not isinstance(ids, list):
            raise InputError(
                f"{path}, case {shown(case)} has {shown(ids)}, expected a list of class ids; correct it"
            )
        yield f"{path}, case {shown(case)}", case, ids


def _classes(where: str, ids: list[Any], label_set: LabelSet) -> frozenset[int]:
    named = {str(i): i for i in label_set.ids}
    strange = [i for i in ids if isinstance(i, bool) or str(i) not in named]
    if strange:
        raise InputError(
            f"{where} has the class {shown(strange[0])}, expected ids of {label_set.name} "
            f"({min(label_set.ids)}..{max(label_set.ids)}) separated by spaces; correct it"
        )
    return frozenset(named[str(i)] for i in ids)
