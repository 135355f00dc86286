"""Who is on top of the review queue and why, the slice, and the files for other programs."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
from filled_store import AXIAL, CASES, add_scan, annotation_pins, filled_store, label_volume
from numpy.typing import NDArray

from pwsseg.cli import main
from pwsseg.report.overlays import orient, slice_height_mm
from pwsseg.report.review import Entry, Reason, review, slice_to_look_at, together
from pwsseg.report.review_files import itk_snap_labels, review_csv, slicer_colors, write_csv, write_folder
from pwsseg.store import Layer, PredictionPins, Store
from pwsseg.values import FLARE23, Geometry, InputError, StoreError

TUMOR_CASE, GROWN_CASE, STABLE_CASE = CASES


def predicted(store: Store, name: str, volumes: dict[str, NDArray[np.uint8]]) -> Layer:
    pins = PredictionPins.model_validate(
        {
            "name": name,
            "kind": "prediction",
            "classes": (1, 2, 14),
            "parents": (),
            "settings": {},
            "rules": (),
        }
        | {"model": {"id": "os1.v1", "digest": "0" * 64}, "code": name}
    )
    draft = store.draft(pins)
    for case, labels in volumes.items():
        draft.write(case, labels, annotated_classes=(1, 2, 14), seconds={})
    return draft.publish(list(volumes))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store.create(tmp_path_factory.mktemp("review") / "store")
    for case in CASES:
        add_scan(store, case, "training")
    draft = store.draft(annotation_pins())
    draft.write(GROWN_CASE, label_volume(), annotated_classes=(1, 2), seconds={})
    draft.publish([GROWN_CASE])
    predicted(store, "ots1", {case: label_volume() for case in CASES})
    tumor, grown = label_volume(), label_volume()
    tumor[3, 5:7, 4:6] = 14
    grown[1:3, :, :] = 1
    predicted(store, "ots2", {TUMOR_CASE: tumor, GROWN_CASE: grown, STABLE_CASE: label_volume()})
    return store


def test_a_new_tumor_comes_first_with_its_slice(store: Store) -> None:
    first = review(store)[0]
    assert (first.case, first.layer, first.slice, first.slices) == (TUMOR_CASE, "ots2.v1", 4, 7)
    assert first.reasons[0] == "tumor appeared since ots1.v1"
    assert first.height_mm == 300 + 3 * 2.5


def test_a_class_that_outgrew_its_annotation_comes_next(store: Store) -> None:
    second = review(store)[1]
    assert second.case == GROWN_CASE
    assert any(reason.startswith("liver of") and "annotated 0.216 ml" in reason for reason in second.reasons)
    assert any("volumes changed by" in reason for reason in second.reasons)
    assert second.slice in (2, 3)


def test_a_stable_case_is_not_in_the_queue(store: Store) -> None:
    assert [entry.case for entry in review(store)] == [TUMOR_CASE, GROWN_CASE]
    assert [entry.case for entry in review(store, top=1)] == [TUMOR_CASE]


def test_a_missing_organ_is_a_reason(tmp_path: Path) -> None:
    store = Store.create(tmp_path)
    names = [f"case-{i:02d}" for i in range(10)]
    for case in names:
        add_scan(store, case)
    volumes = {case: label_volume() for case in names}
    volumes["case-07"][volumes["case-07"] == 2] = 0
    predicted(store, "os1", volumes)
    assert [(e.case, e.reasons) for e in review(store)] == [("case-07", ("no right kidney",))]


def test_each_further_reason_counts_half_of_the_one_before() -> None:
    assert together([Reason(0.8, "a"), Reason(0.8, "b"), Reason(0.4, "c")]) == pytest.approx(0.8 + 0.4 + 0.1)


def test_only_predictions_are_reviewed(store: Store, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"annotation\.v1 is no prediction"):
        review(store, layer="annotation")
    with pytest.raises(StoreError, match="no predicted layer"):
        review(Store.create(tmp_path))


def test_the_slice_is_where_most_differs() -> None:
    a, b = np.zeros((2, 5, 4, 4), np.uint8)
    a[1, :2], b[3, :3], b[2, 0, 0] = 1, 1, 2
    assert slice_to_look_at([a, b], None) == 3
    assert slice_to_look_at([a, b], 2) == 2
    assert slice_to_look_at([a, a], 1) == 1


@pytest.mark.parametrize("direction", [AXIAL, (0, 0, 1, 0, 1, 0, -1, 0, 0), (1, 0, 0, 0, 0, 1, 0, -1, 0)])
def test_the_height_is_that_of_the_slice_shown(direction: tuple[float, ...]) -> None:
    geometry = Geometry.model_validate(
        {"shape": (4, 5, 6), "spacing": (1, 2, 3), "origin": (7, 8, 9), "direction": direction}
    )
    steps = geometry.direction_matrix * np.asarray(geometry.spacing)
    grid = np.stack(np.meshgrid(*[np.arange(n) for n in geometry.shape], indexing="ij"))
    heights = orient(9 + np.einsum("a,azyx->zyx", steps[2], grid), geometry).array
    for z, height in enumerate(heights):
        assert slice_height_mm(geometry, z) == pytest.approx(float(height.mean()))


def test_labels_and_scans_go_to_files_that_can_come_back(store: Store, tmp_path: Path) -> None:
    entries = review(store)
    folder = write_folder(store, entries, tmp_path / "new" / "review")
    path = folder / "labels" / f"{TUMOR_CASE}.nii.gz"
    labels = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path)))
    assert np.array_equal(labels, store.layer("ots2").labels(TUMOR_CASE))
    scan = SimpleITK.ReadImage(str(folder / "scans" / f"{TUMOR_CASE}_0000.nii.gz"))
    assert np.array_equal(SimpleITK.GetArrayFromImage(scan), store.scan(TUMOR_CASE).read())
    path.write_bytes(b"corrected by hand")
    write_folder(store, entries, folder)
    assert path.read_bytes() == b"corrected by hand"


def test_csv_has_a_line_a_case(store: Store, tmp_path: Path) -> None:
    entries = review(store)
    rows = list(csv.DictReader(io.StringIO(review_csv(entries))))
    assert [row["case"] for row in rows] == [TUMOR_CASE, GROWN_CASE]
    assert rows[1]["reasons"] == "; ".join(entries[1].reasons)
    with pytest.raises(InputError, match="is a folder"):
        write_csv(entries, tmp_path)


def test_label_descriptions_name_and_color_every_class() -> None:
    lines = [line for line in itk_snap_labels(FLARE23).splitlines() if not line.startswith("#")]
    assert [line.split(maxsplit=7)[0] for line in lines] == [str(i) for i in range(15)]
    assert lines[6].split(maxsplit=7) == ["6", "69", "123", "157", "1", "1", "1", '"inferior vena cava"']
    colors = [line.split() for line in slicer_colors(FLARE23).splitlines()[1:]]
    assert colors[6] == ["6", "inferior_vena_cava", "69", "123", "157", "255"]
    assert len(colors) == 15


def test_command_lists_the_queue(store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = tmp_path / "queue.csv"
    assert main(["review", store.location, "--csv", str(table)]) == 0
    told = capsys.readouterr().out
    assert "tumor appeared since ots1.v1" in told
    assert str(table) in told
    assert main(["review", store.location, "--json"]) == 0
    entries = [Entry(**entry) for entry in json.loads(capsys.readouterr().out)["cases"]]
    assert [e.case for e in entries] == [TUMOR_CASE, GROWN_CASE]


def test_a_round_without_one_before_is_judged_by_annotation_alone(tmp_path: Path) -> None:
    assert review(filled_store(tmp_path)) == []  # its shapes move and keep their volume
