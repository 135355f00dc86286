"""Parquet: what DuckDB or pandas would read of a layer without opening a volume."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Any

from pwsseg.store.measures import CHANGED, CHANGED_ORGANS
from pwsseg.store.records import CaseRecord
from pwsseg.values import UNKNOWN, StoreError, first_line, shown
from pwsseg.values.ids import CASE_ID

Row = dict[str, Any]
BEFORE_VOXELS = ("case", "digest", "scan", "annotated_classes", "size_z", "size_y", "size_x", "voxel_ml")
AFTER_VOXELS = ("seconds", "notes")
MANIFEST_COLUMNS = (*BEFORE_VOXELS, *AFTER_VOXELS)
"""The columns that every manifest has; counts of voxels stand between the two parts."""
AT_ONCE = 256
"""Records that are turned into columns at once."""
CHECK = "run `pwsseg verify`"


def manifest_bytes(cases: Iterable[CaseRecord], classes: Sequence[int]) -> bytes:
    """A layer's manifest.parquet: one row a case, in the order given, which is by case.

    Columns: case, digest, scan (digest), annotated_classes, size_z, size_y, size_x (voxels), voxel_ml,
    voxels_<class> (null where the layer doesn't speak about the class), voxels_unknown, seconds, notes;
    where any case was compared with another layer's, changed_organs and changed_<class> (voxels, or null).
    Records are turned into columns as they come, since a record takes many times the memory of its row.
    """
    import pyarrow as pa

    changes = [CHANGED_ORGANS, *(f"{CHANGED}{i}" for i in classes)]
    voxels = [*(f"voxels_{i}" for i in classes), "voxels_unknown"]
    names = [*BEFORE_VOXELS, *voxels, *changes, *AFTER_VOXELS]
    schema = pa.schema([(name, _manifest_type(name)) for name in names])
    rows = (_manifest_row(case, classes, changes) for case in cases)
    parts = [pa.Table.from_pylist(part, schema) for part in iter(lambda: list(islice(rows, AT_ONCE)), [])]
    table = pa.concat_tables([schema.empty_table(), *parts]).combine_chunks()
    compared = table[CHANGED_ORGANS].null_count < len(table)
    # by place, not by name: a forged record names a class twice, and its columns have one name then
    return _parquet(table.select([i for i, name in enumerate(names) if compared or name not in changes]))


def _manifest_row(record: CaseRecord, classes: Sequence[int], changes: Sequence[str]) -> Row:
    z, y, x = record.geometry.shape
    return {
        "case": record.case,
        "digest": record.digest,
        "scan": record.scan,
        "annotated_classes": list(record.annotated_classes),
        "size_z": z,
        "size_y": y,
        "size_x": x,
        "voxel_ml": record.geometry.voxel_ml,
        **{f"voxels_{i}": record.voxels.get(str(i)) for i in classes},
        "voxels_unknown": record.voxels.get(str(UNKNOWN), 0),
        **{name: record.measures.get(name) for name in changes},
        "seconds": sum(record.seconds.values()),
        "notes": list(record.notes),
    }


def _manifest_type(name: str) -> Any:
    import pyarrow as pa

    types = {
        **dict.fromkeys(("case", "digest", "scan"), pa.string()),
        **dict.fromkeys(("voxel_ml", "seconds"), pa.float64()),
        "annotated_classes": pa.list_(pa.uint8()),
        "notes": pa.list_(pa.string()),
    }
    return types.get(name, pa.int64())


def manifest_rows(data: bytes, where: str, columns: Sequence[str] = ()) -> list[Row]:
    """The rows of a manifest's bytes, all columns or those named; StoreError names `where` when it is none.

    Columns of changes may be asked for where there are none: rows have none, then.
    Its cases become folders and file names, so none is taken that is no case id.
    """
    rows = read_rows(data, columns or None, where=where, fits=lambda name, kind: kind == _manifest_type(name))
    wanted = {name for name in columns or MANIFEST_COLUMNS if not name.startswith(CHANGED)}
    filled = [name for name in MANIFEST_COLUMNS if name != "notes"]
    for row in rows:
        if not wanted <= row.keys() or None in (row[name] for name in filled if name in row):
            raise StoreError(f"{where} is no manifest of a layer: columns or values are missing; {CHECK}")
        if any(row.get(f"voxels_{i}", 0) is None for i in row.get("annotated_classes", ())):
            raise StoreError(f"{where} states classes that it does not count; {CHECK}")
        if "case" in row and not CASE_ID.fullmatch(row["case"]):
            raise StoreError(f"{where} names {shown(row['case'])}, which is no case id; {CHECK}")
    return rows


SCORE_COLUMNS = {
    "case": "string",
    "class": "uint8",
    "dsc": "float64",
    "nsd": "float64",
    "dsc_clean": "float64",
    "nsd_clean": "float64",
    "voxels": "int64",
    "voxels_reference": "int64",
    "voxel_ml": "float64",
    "components": "int64",
    "components_reference": "int64",
    "lesions": "int64",
    "lesions_found": "int64",
    "lesions_predicted": "int64",
    "lesions_false": "int64",
}
"""Columns of a table of scores and their Arrow types; what each means stands in zarr_schema/README.md."""


def scores_bytes(rows: Sequence[Row]) -> bytes:
    """Scores as Parquet: those of SCORE_COLUMNS that the rows have. ValueError where they have others."""
    import pyarrow as pa

    used = {name for row in rows for name in row}
    if unknown := sorted(used - set(SCORE_COLUMNS)):
        raise ValueError(f"a table of scores has no column {unknown[0]}; add it to SCORE_COLUMNS")
    types = [(name, pa.type_for_alias(kind)) for name, kind in SCORE_COLUMNS.items() if name in used]
    return _parquet(pa.Table.from_pylist(list(rows), schema=pa.schema(types)))


def is_score(name: str, kind: Any) -> bool:
    """Whether a column of scores holds what its name says; the first stores had wider integers."""
    import pyarrow.types as pt

    checks = {"string": pt.is_string, "float64": pt.is_floating}
    return name in SCORE_COLUMNS and bool(checks.get(SCORE_COLUMNS[name], pt.is_integer)(kind))


def read_rows(
    data: bytes,
    columns: Sequence[str] | None = None,
    *,
    where: str = "a table of the store",
    fits: Callable[[str, Any], bool] | None = None,
) -> list[Row]:
    """The rows of a Parquet file's bytes, all columns or those named.

    StoreError names `where` when that can't be read, or a column's Arrow type does not fit its name.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        # not read_table: it imports pyarrow.dataset, which takes longer than reading a manifest
        file = pq.ParquetFile(pa.BufferReader(data))
        # on this thread: a command that ended while Arrow's pool was starting was aborted, one in fifty
        table = file.read(columns=None if columns is None else list(columns), use_threads=False)
        rows: list[Row] = table.to_pylist()
    except Exception as error:  # pyarrow has a dozen ways to say that bytes are damaged
        raise StoreError(f"{where} can't be read as Parquet ({first_line(error)[:200]}); {CHECK}") from error
    strange = [f.name for f in table.schema if fits and not fits(f.name, f.type)]
    if strange or len(set(table.column_names)) < len(table.column_names):
        raise StoreError(f"{where} has columns of another type or name ({shown(strange)}); {CHECK}")
    return rows


def _parquet(table: Any) -> bytes:
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()
