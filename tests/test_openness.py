"""What others need of a store: a reader from the specification alone, OME-Zarr's own judge, DuckDB."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import numpy as np
import pytest
import SimpleITK
import zarr
from filled_store import CASES, CLASSES, GEOMETRY, add_scan, filled_store, hu_volume, label_volume
from numpy.typing import NDArray
from ome_zarr_models.v05 import Image, ImageLabel

from pwsseg.formats.nifti import read_scan
from pwsseg.store import Source, Store
from pwsseg.values import FLARE23, UNKNOWN

ROOT = Path(__file__).parents[1]


# A reader of about 40 lines, written from zarr_schema/README.md: it imports nothing of ours.


class PlainVolume(NamedTuple):
    voxels: NDArray[Any]  # (z, y, x)
    record: dict[str, Any]

    def world(self, index: tuple[float, float, float]) -> NDArray[np.float64]:
        """LPS, mm, of a voxel's centre."""
        grid = self.record["geometry"]
        step = np.reshape(grid["direction"], (3, 3)) @ (np.array(grid["spacing"]) * index)
        return np.array(grid["origin"]) + step


def ours(group: zarr.Group) -> dict[str, Any]:
    found: Any = group.attrs["pwsseg"]
    if found["version"] != 1:
        raise ValueError(f"version {found['version']} is not known")
    record: dict[str, Any] = found["record"]
    return record


def open_volume(store: zarr.Group, path: str) -> PlainVolume:
    group = zarr.open_group(store.store, path=path, mode="r")
    array: Any = group["0"]
    voxels = np.asarray(array[...])
    head = f"{voxels.dtype.name} {','.join(map(str, voxels.shape))}\n".encode()
    little = voxels.astype(voxels.dtype.newbyteorder("<"))
    if hashlib.sha256(head + little.tobytes()).hexdigest() != ours(group)["digest"]:
        raise ValueError(f"{path} is damaged")
    return PlainVolume(voxels, ours(group))


def open_labels(store: zarr.Group, layer: str, case: str) -> PlainVolume:
    if ours(zarr.open_group(store.store, path=f"layers/{layer}", mode="r"))["state"]["state"] != "published":
        raise ValueError(f"{layer} is a draft")
    return open_volume(store, f"layers/{layer}/{case}")


def class_names(store: zarr.Group) -> dict[int, str]:
    return {c["id"]: c["name"] for c in ours(store)["label_set"]["classes"]}


# the tests


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return filled_store(tmp_path_factory.mktemp("full"))


@pytest.fixture(scope="module")
def plain(full: Store) -> zarr.Group:
    return zarr.open_group(full.location, mode="r")


def test_a_plain_reader_reads_scans(plain: zarr.Group) -> None:
    scan = open_volume(plain, "scans/case-a")
    assert np.array_equal(scan.voxels, hu_volume(len("case-a") + ord("a")))
    assert scan.record["split"] == "training"


def test_a_plain_reader_reads_labels_and_what_they_mean(plain: zarr.Group) -> None:
    labels = open_labels(plain, "os1.v1", "case-b")
    assert np.array_equal(labels.voxels, label_volume(1))
    assert labels.record["annotated_classes"] == list(CLASSES)
    names = class_names(plain)
    assert [names[c] for c in labels.record["annotated_classes"]] == ["liver", "right kidney", "tumor"]
    assert names == {c.id: c.name for c in FLARE23.classes}


def test_a_plain_reader_reads_prepared_scans(plain: zarr.Group) -> None:
    prepared = open_volume(plain, "prepared/spacing-4-2-2/case-a")
    assert np.array_equal(prepared.voxels, open_volume(plain, "scans/case-a").voxels.astype(np.float16))


def test_a_plain_reader_sees_drafts_and_damage(full: Store, plain: zarr.Group, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="draft"):
        open_labels(plain, "os1.v2", "case-a")
    store = Store.create(tmp_path / "store")
    add_scan(store, "case-a")
    folder = Path(store.location) / "scans" / "case-a"
    record = (folder / "zarr.json").read_text()
    (folder / "zarr.json").write_text(record.replace(store.scan("case-a").digest, "0" * 64))
    with pytest.raises(ValueError, match="damaged"):
        open_volume(zarr.open_group(store.location, mode="r"), "scans/case-a")


@pytest.mark.parametrize("direction", [(1, 0, 0, 0, 1, 0, 0, 0, 1), (-1, 0, 0, 0, 0.6, -0.8, 0, 0.8, 0.6)])
def test_a_plain_reader_places_voxels_where_simpleitk_does(
    direction: tuple[float, ...], tmp_path: Path
) -> None:
    image = SimpleITK.GetImageFromArray(hu_volume(0))
    image.SetSpacing((0.75, 0.8, 2.5))
    image.SetOrigin((-40.0, 12.5, 300.0))
    image.SetDirection(direction)
    SimpleITK.WriteImage(image, tmp_path / "case-a_0000.nii.gz")
    store = Store.create(tmp_path / "store")
    scan = read_scan(tmp_path / "case-a_0000.nii.gz", any_range=True)
    source = Source(format="nifti", name="case-a_0000.nii.gz", digest="5" * 64)
    store.write_scan("case-a", scan.array, scan.geometry, source=source, split="training")
    read = open_volume(zarr.open_group(store.location, mode="r"), "scans/case-a")
    for z, y, x in ((0, 0, 0), (6, 0, 3), (1, 11, 9)):
        assert np.allclose(read.world((z, y, x)), image.TransformIndexToPhysicalPoint((x, y, z)), atol=1e-4)
        assert read.voxels[z, y, x] == image[x, y, z]


# OME-Zarr


def test_scans_and_layers_are_ome_zarr_with_spacing_colours_and_names(full: Store) -> None:
    root = Path(full.location)
    for path in (*sorted(root.glob("scans/case-*")), *sorted(root.glob("prepared/*/case-*"))):
        check_image(Image.from_zarr(zarr.open_group(path, mode="r")), path.name)
    for path in sorted(root.glob("layers/*/case-*")):
        label = ImageLabel.from_zarr(zarr.open_group(path, mode="r"))
        check_image(label, path.name)
        check_label(label, path, root)


def check_image(image: Any, case: str) -> None:
    (scale,) = image.attributes.ome.multiscales
    assert (scale.name, [a.name for a in scale.axes]) == (case, ["z", "y", "x"])
    assert {a.unit for a in scale.axes} == {"millimeter"}
    first, second = scale.datasets[0].coordinateTransformations
    assert tuple(first.scale) == GEOMETRY.spacing
    origin = GEOMETRY.direction_matrix.T @ GEOMETRY.origin
    assert np.allclose(second.translation, origin)


def check_label(label: Any, path: Path, root: Path) -> None:
    said = label.attributes.ome.image_label
    voxels = np.asarray(zarr.open_group(path, mode="r")["0"])
    shown = set(np.unique(voxels)) - {0}
    assert {c.label_value for c in said.colors} == {p.label_value for p in said.properties} >= shown
    names = {p.label_value: p.name for p in said.properties}
    assert names == {c: "unknown" if c == UNKNOWN else FLARE23[c].name for c in names}
    for colour in said.colors:
        if colour.label_value != UNKNOWN:
            assert tuple(colour.rgba) == (*bytes.fromhex(FLARE23[colour.label_value].color[1:]), 255)
    assert (path / str(said.source.image)).resolve() == root / "scans" / path.name


# DuckDB


def test_the_query_of_the_docs_is_answered_by_duckdb(full: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(full.location).parent)
    text = (ROOT / "docs" / "store.md").read_text()
    query = text.split("```sql\n")[1].split("```")[0].replace("pwsseg-store", "store")
    found = duckdb.connect().execute(query).fetchall()
    assert [row[0] for row in found] == ["annotation.v1", "os1-fused.v1", "os1.v1"]
    for layer, cases, liver_ml, _ in found:
        entries = [full.layer(layer).entry(case) for case in full.layer(layer).cases()]
        assert cases == len(entries)
        livers = [entry.voxels["1"] * entry.geometry.voxel_ml for entry in entries]
        assert liver_ml == pytest.approx(np.mean(livers), abs=0.51)


def test_every_row_of_a_manifest_is_its_cases_record(full: Store) -> None:
    manifest = Path(full.location) / "layers" / "os1.v1" / "manifest.parquet"
    found = duckdb.connect().execute("SELECT * FROM read_parquet(?)", [str(manifest)])
    columns = [column[0] for column in found.description or []]
    rows = [dict(zip(columns, row, strict=True)) for row in found.fetchall()]
    assert [row["case"] for row in rows] == list(CASES)
    for row in rows:
        stored = Path(full.location) / "layers" / "os1.v1" / row["case"] / "zarr.json"
        record = json.loads(stored.read_bytes())["attributes"]["pwsseg"]["record"]
        assert row["digest"] == record["digest"]
        assert {str(c): row[f"voxels_{c}"] for c in CLASSES} == record["voxels"]
