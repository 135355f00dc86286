"""What the store says about itself: one record a scan, case, layer, model; JSON on disk.

Records have no defaults, so nothing is implied by a missing key, and state their rules as unions and
patterns, so that the JSON Schema made from them (`zarr_schema/v1.schema.json`) says the same.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from pwsseg.store.digests import json_digest
from pwsseg.values import Geometry, LabelSet

FORMAT_VERSION = 1

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Fingerprint = Annotated[str, Field(pattern=r"^[A-Za-z0-9+/]*=*$")]
CaseId = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$")]
VersionedId = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,31}\.v[1-9][0-9]*$")]
ClassId = Annotated[int, Field(ge=1, le=254)]
ChannelLabel = Annotated[int, Field(ge=0, le=254)]
ClassKey = Annotated[str, Field(pattern=r"^([1-9]|[1-9][0-9]|1[0-9][0-9]|2[0-4][0-9]|25[0-5])$")]
Moment = Annotated[str, Field(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$")]
Count = Annotated[int, Field(ge=0)]
Voxels = Annotated[dict[ClassKey, Count], Field(json_schema_extra={"additionalProperties": False})]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Measure = Annotated[float, Field(allow_inf_nan=False)]
Json = dict[str, JsonValue]


def now() -> str:
    """The time, UTC, as records say it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Record(BaseModel):
    """Immutable, complete, and nothing else in it."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Pin(Record):
    """Exactly this version of a layer or model: a layer's digest, or that of a model's weights."""

    id: VersionedId
    digest: Digest


class StoreRecord(Record):
    """The root: what label volumes in this store can name."""

    type: Literal["store"]
    label_set: LabelSet


class Source(Record):
    """Where a scan came from: the name of the file or folder, and the digest of its bytes."""

    format: Literal["nifti", "dicom"]
    name: str
    digest: Digest


class ScanRecord(Record):
    """One CT volume, int16 Hounsfield units on its native grid.

    `fingerprint` tells whether another scan shows the same acquisition (pwsseg/arrays/likeness.py); scans of
    stores from before it have none.
    """

    type: Literal["scan"]
    case: CaseId
    split: Literal["training", "validation"]
    geometry: Geometry
    source: Source
    digest: Digest
    fingerprint: Fingerprint = Field(default="", exclude_if=lambda code: not code)


class CaseRecord(Record):
    """One case of a layer: written last, so a case without it does not exist.

    `annotated_classes`: the classes that the layer speaks about in this case; a class among them without
    voxels is absent, a class not among them is unknown. `voxels`: class id -> count, zeros included; 255
    counts the unknown voxels. `scan`: digest of the scan that the labels lie on.
    """

    type: Literal["case"]
    case: CaseId
    geometry: Geometry
    scan: Digest
    annotated_classes: tuple[ClassId, ...]
    voxels: Voxels
    seconds: dict[str, Seconds]
    measures: dict[str, Measure]
    notes: tuple[str, ...]
    digest: Digest


class LayerPins(Record):
    """All that decides what a layer will hold; same pins, same layer."""

    name: Name
    classes: tuple[ClassId, ...]
    parents: tuple[Pin, ...]
    settings: Json
    rules: tuple[str, ...]
    code: str

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON."""
        return json_digest(self.model_dump(mode="json"))


class AnnotationPins(LayerPins):
    """Labels that people made; parents are earlier versions that it corrects or extends."""

    kind: Literal["annotation"]
    model: None


class PredictionPins(LayerPins):
    """Labels that a model made."""

    kind: Literal["prediction"]
    model: Pin


class FusionPins(LayerPins):
    """Labels put together from parents by the named rules."""

    kind: Literal["fusion"]
    model: None


Pins = Annotated[AnnotationPins | PredictionPins | FusionPins, Field(discriminator="kind")]


class AcceptedDrift(Record):
    """What lay beyond a round's limits when it was published, against which layer, and a person's reason."""

    reason: str = Field(min_length=1)
    since: Pin
    found: tuple[str, ...]


class Missing(Record):
    """A case that a layer was published without, and why it failed."""

    case: CaseId
    reason: str = Field(min_length=1)


class Draft(Record):
    """Being written: no source for anything."""

    state: Literal["draft"]


class Published(Record):
    """Complete and for ever. `manifest`: digest of the bytes of manifest.parquet.

    `accepted_drift` is there when the gate would have refused it, `missing` when cases failed and a person
    allowed that.
    """

    state: Literal["published"]
    created: Moment
    cases: Count
    bytes: Count
    manifest: Digest
    digest: Digest
    accepted_drift: AcceptedDrift | None = Field(default=None, exclude_if=lambda drift: drift is None)
    missing: tuple[Missing, ...] = Field(default=(), exclude_if=lambda cases: not cases)


class LayerRecord(Record):
    """One version of a layer."""

    type: Literal["layer"]
    id: VersionedId
    pins: Pins
    state: Annotated[Draft | Published, Field(discriminator="state")]


class ModelPins(Record):
    """All that decides what is trained. `targets`: layers learned from; `cases`: the scans learned from."""

    name: Name
    targets: tuple[Pin, ...]
    starts_from: Pin | None
    settings: Json
    cases: tuple[CaseId, ...]
    code: str

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON."""
        return json_digest(self.model_dump(mode="json"))


class Training(Record):
    """The version is taken, the weights are not there yet."""

    state: Literal["draft"]


class Trained(Record):
    """What builds the network again, and the digest of the bytes of its weights and its curve.

    `classes`: the label of each output channel in turn, 0 for background.
    """

    state: Literal["published"]
    created: Moment
    network: Json
    classes: tuple[ChannelLabel, ...]
    activation: Literal["softmax", "sigmoid"]
    preprocessing: Json
    weights: Digest
    curve: Digest
    bytes: Count


class ModelRecord(Record):
    """One version of a model."""

    type: Literal["model"]
    id: VersionedId
    pins: ModelPins
    state: Annotated[Training | Trained, Field(discriminator="state")]


class PreparedRecord(Record):
    """A scan made ready for the networks; `scan` is the digest of the scan it was made from."""

    type: Literal["prepared"]
    case: CaseId
    recipe: str
    geometry: Geometry
    scan: Digest
    digest: Digest


class ScoresRecord(Record):
    """The scores of one layer against another; `table`: digest of the bytes of the Parquet file beside it."""

    type: Literal["scores"]
    layer: Pin
    reference: Pin
    rows: Count
    table: Digest


class RetirementRecord(Record):
    """A published layer or model that was given up; its own record is not touched by that.

    `frees`: size of the objects that go. `deleted` is null while they are still there.
    """

    type: Literal["retirement"]
    room: Literal["layers", "models"]
    pin: Pin
    retired: Moment
    frees: Count
    deleted: Moment | None


AnyRecord = Annotated[
    StoreRecord
    | ScanRecord
    | CaseRecord
    | LayerRecord
    | ModelRecord
    | PreparedRecord
    | ScoresRecord
    | RetirementRecord,
    Field(discriminator="type"),
]


class Envelope(Record):
    """What stands under the attribute key `pwsseg`.

    `seal`: SHA-256 of the bytes of the whole JSON document with these 64 digits replaced by zeros.
    `arrays`: name -> SHA-256 of the bytes of the array's own zarr.json.
    """

    version: Literal[1]
    seal: Digest
    arrays: dict[str, Digest]
    record: AnyRecord
