import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from pydantic import ValidationError

from pwsseg.store.documents import envelope, seal_holds
from pwsseg.store.records import Envelope, Published
from pwsseg.store.schema import schema, schema_text
from pwsseg.values import Geometry, StoreError

ROOT = Path(__file__).parents[1] / "zarr_schema"
VALID = sorted((ROOT / "examples" / "valid").glob("*.json"))
INVALID = sorted((ROOT / "examples" / "invalid").glob("*.json"))
VALIDATOR = jsonschema.Draft202012Validator(schema())


def ours(path: Path) -> dict[str, Any]:
    document = json.loads(path.read_bytes())
    value: dict[str, Any] = document.get("attributes", document)["pwsseg"]
    return value


def test_the_schema_is_current() -> None:
    assert (ROOT / "v1.schema.json").read_text() == schema_text(), "run `make schema`"
    jsonschema.Draft202012Validator.check_schema(schema())


def test_there_is_an_example_of_every_record() -> None:
    shown = {ours(path)["record"]["type"] for path in VALID}
    assert shown == set(schema()["properties"]["record"]["discriminator"]["mapping"])
    assert len(INVALID) > 20


@pytest.mark.parametrize("path", VALID, ids=lambda p: p.stem)
def test_valid_examples_are_accepted_by_both(path: Path) -> None:
    VALIDATOR.validate(ours(path))
    record = envelope(path.read_bytes(), path.name)
    assert json.loads(record.model_dump_json()) == ours(path)
    assert seal_holds(path.read_bytes())


@pytest.mark.parametrize("path", INVALID, ids=lambda p: p.stem)
def test_invalid_examples_are_refused_by_both(path: Path) -> None:
    with pytest.raises(jsonschema.ValidationError):
        VALIDATOR.validate(ours(path))
    with pytest.raises(ValidationError):
        Envelope.model_validate_json(json.dumps(ours(path)), strict=True)
    with pytest.raises(StoreError, match=path.name):
        envelope(path.read_bytes(), path.name)


def test_json_in_the_text_is_valid() -> None:
    blocks = [
        json.loads(b) for b in re.findall(r"```json\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    ]
    kinds = [checked(block) for block in blocks]
    assert kinds == ["layer", "geometry", "published"]


def checked(block: dict[str, Any]) -> str:
    if "version" in block:
        VALIDATOR.validate(block)
        return Envelope.model_validate_json(json.dumps(block), strict=True).record.type
    if "spacing" in block:
        Geometry.model_validate_json(json.dumps(block), strict=True)
        return "geometry"
    return Published.model_validate_json(json.dumps(block), strict=True).state
