"""Parquet: what DuckDB or pandas would read of a layer without opening a volume."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

from pwsseg.store.measures import CHANGED, CHANGED_ORGANS
from pwsseg.store.records import CaseRecord
from pwsseg.values import UNKNOWN

Row = dict[str, Any]


def manifest_bytes(cases: Sequence[CaseRecord], classes: Sequence[int]) -> bytes:
    """A layer's manifest.parquet: one row a case, sorted by case.

    Columns: case, digest, scan (digest), annotated_classes, size_z, size_y, size_x (voxels), voxel_ml,
    voxels_<class> (null where the layer doesn't speak about the class), voxels_unknown, seconds, notes;
    where any case was compared with another layer's, changed_organs and changed_<class> (voxels, or null).
    """
    compared = any(CHANGED_ORGANS in c.measures for c in cases)
    changes = [CHANGED_ORGANS, *(f"{CHANGED}{i}" for i in classes)] if compared else []
    rows = [_manifest_row(c, classes, changes) for c in sorted(cases, key=lambda c: c.case)]
    return table_bytes(rows, classes, changes)


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


def table_bytes(rows: Sequence[Row], classes: Sequence[int], changes: Sequence[str]) -> bytes:
    """The rows of a manifest as Parquet, with the column types stated even when there is no row."""
    import pyarrow as pa

    text, count = pa.string(), pa.int64()
    schema = pa.schema(
        [
            *((name, text) for name in ("case", "digest", "scan")),
            ("annotated_classes", pa.list_(pa.uint8())),
            *((name, count) for name in ("size_z", "size_y", "size_x")),
            ("voxel_ml", pa.float64()),
            *((f"voxels_{i}", count) for i in classes),
            ("voxels_unknown", count),
            *((name, count) for name in changes),
            ("seconds", pa.float64()),
            ("notes", pa.list_(text)),
        ]
    )
    return _parquet(pa.Table.from_pylist(list(rows), schema=schema))


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


def read_rows(data: bytes, columns: Sequence[str] | None = None) -> list[Row]:
    """The rows of a Parquet file's bytes, all columns or those named."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    # not read_table: it imports pyarrow.dataset, which takes longer than a command that reads one manifest
    file = pq.ParquetFile(pa.BufferReader(data))
    rows: list[Row] = file.read(columns=None if columns is None else list(columns)).to_pylist()
    return rows


def _parquet(table: Any) -> bytes:
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()
