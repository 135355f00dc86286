"""One acquisition is known again after resaving and cropping, and two people are told apart."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from filled_store import add_scan, annotation_pins
from numpy.typing import NDArray
from road import write_settings

from pwsseg.arrays.likeness import ALIKE, Fingerprints, fingerprint
from pwsseg.arrays.phantom import make_phantom
from pwsseg.arrays.resampling import resample_scan
from pwsseg.formats.reading import read_volume
from pwsseg.pipelines.leakage import Shown, fingerprint_of, leaks
from pwsseg.pipelines.sources import pin_sources
from pwsseg.rounds import load_round
from pwsseg.store import Source, Store
from pwsseg.values import FLARE23, orientation_of, oriented

PEOPLE = ("crlm1004", "gate449", "s0024", "s0028", "ts")
Scan = tuple[NDArray[np.int16], tuple[float, float, float]]


@pytest.fixture(scope="module")
def people(shared_data: Path) -> dict[str, Scan]:
    """Real scans seen the usual way, with their spacing."""
    found = {}
    for name in PEOPLE:
        volume = read_volume(shared_data / "flare" / "imagesTr" / f"{name}_0000.nii.gz")
        upright = np.ascontiguousarray(orientation_of(volume.geometry).apply(volume.array))
        found[name] = upright, oriented(volume.geometry).spacing
    return found


def noisy(scan: Scan) -> Scan:
    array, spacing = scan
    return (array + np.random.default_rng(0).normal(0, 10, array.shape)).astype(np.int16), spacing


def rescaled(scan: Scan) -> Scan:
    return (scan[0] * 1.03 + 7).astype(np.int16), scan[1]


def cropped(scan: Scan) -> Scan:
    """A seventh and a little from each side, not by whole voxels of the fingerprint's grid."""
    array, spacing = scan
    z, y, x = (n // 7 for n in array.shape)
    return np.ascontiguousarray(array[z:-z, y + 1 : -(y + 3), x + 2 : -(x + 1)]), spacing


def thick(scan: Scan) -> Scan:
    array, (z, y, x) = scan
    slices = max(1, round(array.shape[0] * z / 5.0))
    resampled = resample_scan(array, (slices, *array.shape[1:]))
    return resampled.astype(np.int16), (array.shape[0] * z / slices, y, x)


def coarse(scan: Scan) -> Scan:
    array, (z, y, x) = scan
    return np.ascontiguousarray(array[:, ::2, ::2]), (z, 2 * y, 2 * x)


@pytest.mark.parametrize("changed", [noisy, rescaled, cropped, thick, coarse])
def test_a_changed_copy_is_like_its_scan_alone(
    people: dict[str, Scan], changed: Callable[[Scan], Scan]
) -> None:
    known = Fingerprints([fingerprint(*scan) for scan in people.values()])
    shares = np.stack([known.likeness(fingerprint(*changed(scan))) for scan in people.values()])
    assert ((shares >= ALIKE) == np.eye(len(people), dtype=bool)).all(), shares


def test_phantoms_of_one_corpus_are_different_people() -> None:
    codes = []
    for case in range(8):
        phantom = make_phantom(0, case, tumors=1)
        upright = np.ascontiguousarray(orientation_of(phantom.geometry).apply(phantom.hu))
        codes.append(fingerprint(upright, oriented(phantom.geometry).spacing))
    shares = np.stack([*map(Fingerprints(codes).likeness, codes)])
    assert ((shares >= ALIKE) == np.eye(len(codes), dtype=bool)).all(), shares


def test_scan_without_blobs_is_like_none_and_says_nothing() -> None:
    even = np.zeros((40, 40, 40), np.int16)
    assert fingerprint(even, (4.0, 4.0, 4.0)) == ""
    assert fingerprint(even[:3], (4.0, 4.0, 4.0)) == ""
    assert Fingerprints(["", ""]).likeness("").tolist() == [0.0, 0.0]
    assert Fingerprints([]).likeness("").shape == (0,)


def test_fingerprint_is_for_ever(people: dict[str, Scan]) -> None:
    """Stores keep fingerprints: another way of making them would not find copies of old scans."""
    assert fingerprint(*people["ts"])[:48] == "BwAzAE4AcOP+PU0NVkBt5O/IXMpAjSQANAA0AFRzCCdk3lpS"


def test_guard_names_equal_and_cropped_scans_and_no_others(people: dict[str, Scan]) -> None:
    held, other = people["s0024"], people["ts"]
    scans = {
        "held": Shown("validation", "a" * 64, fingerprint(*held)),
        "twin": Shown("training", "a" * 64, fingerprint(*held)),
        "crop": Shown("training", "b" * 64, fingerprint(*cropped(held))),
        "other": Shown("training", "c" * 64, fingerprint(*other)),
    }
    found = leaks(scans)
    assert set(found) == {"twin", "crop"}
    assert "has the voxels of the held-out held" in found["twin"]
    assert "shows what the held-out held shows" in found["crop"]


def test_copy_of_a_held_out_scan_is_no_training_case_and_the_record_says_so(tmp_path: Path) -> None:
    store = Store.create(tmp_path / "store")
    for case in ("case-a", "case-b"):
        add_scan(store, case)
    add_scan(store, "case-v", split="validation")
    source = Source(format="nifti", name="twin.nii.gz", digest="6" * 64)
    twin = store.scan("case-v")
    store.write_scan("twin", twin.read(), twin.geometry, source=source, split="training")
    organs = FLARE23.organs
    draft = store.draft(annotation_pins().model_copy(update={"classes": organs}))
    for case in ("case-a", "twin"):
        draft.write(case, np.zeros(twin.geometry.shape, np.uint8), annotated_classes=organs, seconds={})
    draft.publish(["case-a", "twin"])

    sources = pin_sources(store, load_round("os1", "tiny", folder=write_settings(tmp_path / "settings")))
    assert set(sources.kinds) == {"case-a", "case-b"}
    assert sources.learnt == ["case-a"]
    assert "twin" not in sources.predicted
    left_out = {"twin": "has the voxels of the held-out case-v"}
    assert sources.pinned_settings()["left_out"] == left_out


def test_same_person_twice_as_real_corpora_have_it(people: dict[str, Scan], shared_data: Path) -> None:
    """The top 90 mm of `ts`, saved again with a header that says they lie elsewhere."""
    again = read_volume(shared_data / "flare" / "duplicate" / "ts_top_0000.nii.gz")
    known = Fingerprints([fingerprint(*scan) for scan in people.values()])
    shares = known.likeness(fingerprint_of(again))
    assert [name for name, share in zip(people, shares, strict=True) if share >= ALIKE] == ["ts"]


def test_fingerprint_does_not_depend_on_how_the_file_lies(shared_data: Path) -> None:
    volume = read_volume(shared_data / "flare" / "imagesTr" / "ts_0000.nii.gz")
    upright = oriented(volume.geometry)
    array = np.ascontiguousarray(orientation_of(volume.geometry).apply(volume.array))
    assert fingerprint_of(volume) == fingerprint_of(type(volume)(array, upright))
