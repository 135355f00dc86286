"""The JSON Schema of the records: `python -m pwsseg.store.schema > zarr_schema/v1.schema.json`."""

from __future__ import annotations

import json
import sys
from typing import Any

from pwsseg.store.records import Envelope


def schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of what stands under the key `pwsseg` in a document of the store."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "pwsseg store, version 1: the value of the key `pwsseg`",
        **{k: v for k, v in Envelope.model_json_schema().items() if k != "title"},
    }


def schema_text() -> str:
    """The schema as it is kept in `zarr_schema/v1.schema.json`."""
    return json.dumps(schema(), indent=2) + "\n"


if __name__ == "__main__":
    sys.stdout.write(schema_text())
