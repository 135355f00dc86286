"""Scores of a layer against another: a Parquet table, and beside it the record that makes it count."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pwsseg.store.digests import bytes_digest
from pwsseg.store.documents import plain_bytes, read_record
from pwsseg.store.layer import Layer
from pwsseg.store.objects import Objects
from pwsseg.store.records import ScoresRecord
from pwsseg.store.tables import is_score, read_rows, scores_bytes
from pwsseg.values import StoreError


def scores_key(layer: str, reference: str) -> str:
    """Where the scores lie, less the ending: `.parquet` is the table, `.json` its record."""
    return f"scores/{layer}--{reference}"


def write_scores(
    objects: Objects, layer: Layer, reference: Layer, *, rows: Sequence[dict[str, Any]]
) -> ScoresRecord:
    """Put the table, then its record; replaces older scores of the same two layers."""
    key = scores_key(layer.id, reference.id)
    table = scores_bytes(rows)
    record = ScoresRecord(
        type="scores", layer=layer.pin, reference=reference.pin, rows=len(rows), table=bytes_digest(table)
    )
    objects.write(f"{key}.parquet", table)
    objects.write(f"{key}.json", plain_bytes(record))
    return record


def read_scores(objects: Objects, layer: Layer, reference: Layer) -> list[dict[str, Any]] | None:
    """The rows, None when there are none; StoreError when the table is not the one its record names."""
    key = scores_key(layer.id, reference.id)
    record = read_record(objects, f"{key}.json", ScoresRecord)
    if record is None:
        return None
    table = objects.read(f"{key}.parquet")
    if table is None or bytes_digest(table) != record.table:
        raise StoreError(f"the scores {key} are damaged or half written; run jobs/evaluate.py again")
    return read_rows(table, where=f"{key}.parquet", fits=is_score)
