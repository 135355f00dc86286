"""Phantoms are people: organs of human size on the right side, and the same ones for the same seed."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
from numpy.typing import NDArray
from scipy import ndimage

from pwsseg.arrays.phantom import CorpusPlan, Phantom, _geometry, corpus, make_phantom
from pwsseg.arrays.phantom_body import Vary
from pwsseg.arrays.phantom_shapes import ellipsoid, slab, tube, within, without
from pwsseg.values import FLARE23

SEEDS = (0, 1, 2)

PLAUSIBLE_ML = {
    1: (700, 2600), 2: (60, 300), 3: (50, 450), 4: (20, 160), 5: (20, 160), 6: (30, 200), 7: (2.5, 16),
    8: (2.5, 16), 9: (5, 110), 10: (4, 50), 11: (120, 800), 12: (40, 240), 13: (60, 300),
}  # fmt: skip


@cache
def phantom(case: int) -> Phantom:
    return make_phantom(0, case, tumors=2)


def centre(p: Phantom, label: int) -> NDArray[np.float64]:
    index = np.argwhere(p.organs == label).mean(0)
    g = p.geometry
    return np.asarray(g.origin + g.direction_matrix @ (index * g.spacing), np.float64)


def digest(p: Phantom) -> str:
    said = p.hu.tobytes() + p.labels.tobytes() + p.organs.tobytes() + p.geometry.model_dump_json().encode()
    return hashlib.sha256(said).hexdigest()


def test_another_process_makes_the_same_bytes() -> None:
    script = (
        "import sys; sys.path.insert(0, 'tests'); import test_phantom as t; print(t.digest(t.phantom(0)))"
    )
    other = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == digest(phantom(0))


def test_another_case_or_seed_is_another_person() -> None:
    others = [make_phantom(1, 0, tumors=0, gallbladder=False), *map(phantom, SEEDS)]
    assert len({digest(p) for p in others}) == len(others)
    assert len({p.geometry.shape for p in others}) == len(others)
    assert len({p.geometry.spacing for p in others}) == len(others)


def test_axes_run_differently_from_case_to_case() -> None:
    directions = [_geometry(Vary(np.random.default_rng(seed))).direction_matrix for seed in range(30)]
    oblique = [np.abs(d).max(0).min() < 0.9999 for d in directions]
    flipped = [d[0, 2] < 0 and d[1, 1] < 0 for d in directions]
    assert 0 < sum(oblique) < 30
    assert 0 < sum(flipped) < 30


@pytest.mark.parametrize("case", SEEDS)
def test_every_organ_has_a_human_volume(case: int) -> None:
    p = phantom(case)
    for label, (low, high) in PLAUSIBLE_ML.items():
        ml = np.count_nonzero(p.organs == label) * p.geometry.voxel_ml
        assert low < ml < high, f"{FLARE23[label].name}: {ml:.1f} ml"


@pytest.mark.parametrize("case", SEEDS)
def test_organs_hang_together(case: int) -> None:
    p = phantom(case)
    for label in FLARE23.organs:
        pieces, count = ndimage.label(p.organs == label, np.ones((3, 3, 3)))
        largest = np.bincount(pieces.ravel())[1:].max()
        assert largest >= 0.97 * np.count_nonzero(pieces), f"{FLARE23[label].name} in {count} pieces"


@pytest.mark.parametrize("case", SEEDS)
def test_organs_lie_where_anatomy_puts_them(case: int) -> None:
    x, y, z = np.stack([centre(phantom(case), label) for label in range(1, 14)], axis=1)
    at = {label: label - 1 for label in range(1, 14)}
    left = {3, 8, 11, 13}
    right = {1, 2, 6, 7, 9}
    assert max(x[at[i]] for i in right) < x[at[5]] < min(x[at[i]] for i in left)  # the aorta between
    assert z[at[7]] > z[at[2]]  # adrenals above kidneys
    assert z[at[8]] > z[at[13]]
    assert z[at[10]] > z[at[4]] > z[at[12]]  # esophagus, pancreas, duodenum downwards
    assert max(y[at[9]], y[at[11]]) < min(y[at[2]], y[at[13]])  # gallbladder and stomach before kidneys


@pytest.mark.parametrize("case", SEEDS)
def test_tumors_lie_inside_organs(case: int) -> None:
    p = phantom(case)
    tumor = p.labels == FLARE23.tumor
    assert tumor.any()
    assert (p.organs[tumor] > 0).all()
    assert np.array_equal(p.labels[~tumor], p.organs[~tumor])


def test_no_tumor_and_no_gallbladder_where_none_is_asked_for() -> None:
    p = make_phantom(0, 1, tumors=0, gallbladder=False)
    assert np.array_equal(p.labels, p.organs)
    assert set(np.unique(p.labels)) == {0, *FLARE23.organs} - {9}


@pytest.mark.parametrize("case", SEEDS)
def test_tissues_look_like_ct(case: int) -> None:
    p = phantom(case)
    median = {label: float(np.median(p.hu[p.organs == label])) for label in FLARE23.organs}
    assert 50 < median[1] < 150
    assert median[5] > median[4] > median[9]
    assert p.hu.min() >= -1024
    assert np.median(p.hu[:, 0]) < -950  # air in front of the body


def test_intensity_alone_does_not_tell_organs_apart() -> None:
    p = phantom(1)
    liver = np.percentile(p.hu[p.organs == 1], (10, 90))
    spleen = np.median(p.hu[p.organs == 3])
    wall = np.percentile(p.hu[p.organs == 11], 75)
    assert liver[0] - 30 < spleen < liver[1] + 60
    assert wall > liver[0] - 60


def test_corpus_follows_its_plan() -> None:
    plan = CorpusPlan(
        organs=2, five_organs=1, five_organs_and_tumor=1, tumor_only=1, unannotated=1, validation=2
    )
    cases = corpus(0, plan)
    assert [sorted(c.annotated_classes) for c in cases] == [
        list(range(1, 14)), list(range(1, 14)), [1, 2, 3, 4, 13], [1, 2, 3, 4, 13, 14], [14], [],
        list(range(1, 15)), list(range(1, 15)),
    ]  # fmt: skip
    assert [c.split for c in cases] == ["training"] * 6 + ["validation"] * 2
    assert len({c.case for c in cases}) == len(cases)


def test_default_validation_has_tumors_in_at_least_five_cases() -> None:
    validation = [c for c in corpus(0) if c.split == "validation"]
    assert sum(c.tumors > 0 for c in validation) >= 5


def test_labels_hold_annotated_classes_only() -> None:
    for case in corpus(0):
        assert set(np.unique(case.annotated(phantom(0)))) == case.annotated_classes | {0}


def test_an_organ_annotator_draws_through_the_tumor() -> None:
    p, case = phantom(0), corpus(0, CorpusPlan(organs=0, five_organs=1))[0]
    through = (p.labels == FLARE23.tumor) & np.isin(p.organs, list(case.annotated_classes))
    assert through.any()
    assert np.array_equal(case.annotated(p)[through], p.organs[through])


def test_shapes_know_their_distances() -> None:
    points = np.asarray([[0, 10, 14], [0, 0, 0], [0, 0, 0]], np.float32)
    assert np.allclose(ellipsoid((0, 0, 0), (10, 10, 10)).distance(points), [-10, 0, 4], atol=1e-3)
    assert np.allclose(slab((0, 0, 0), (10, 20, 20)).distance(points), [-10, 0, 4], atol=1e-3)
    assert np.allclose(tube(((0, 0, -50), (0, 0, 50)), (10, 10)).distance(points), [-10, 0, 4], atol=1e-3)


def test_shapes_combine() -> None:
    points = np.asarray([[0, 8, 14], [0, 0, 0], [0, 0, 0]], np.float32)
    ball, corner = ellipsoid((0, 0, 0), (10, 10, 10)), ellipsoid((10, 0, 0), (5, 5, 5))
    assert (within(ball, corner).distance(points) < 0).tolist() == [False, True, False]
    assert (without(ball, corner).distance(points) < 0).tolist() == [True, False, False]


def run_phantom_job(*options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "jobs/phantom.py", *options]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_job_writes_the_flare_layout(tmp_path: Path) -> None:
    counts = [
        "--organs=0",
        "--five-organs=0",
        "--five-organs-and-tumor=0",
        "--tumor-only=1",
        "--unannotated=1",
    ]
    done = run_phantom_job("--out", str(tmp_path), "--validation=1", "--workers=2", *counts)
    assert done.returncode == 0, done.stderr
    written = sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file())
    assert written == [
        "annotated.csv",
        "imagesTr/phantom_0001_0000.nii.gz",
        "imagesTr/phantom_0002_0000.nii.gz",
        "imagesVal/phantom_0003_0000.nii.gz",
        "labelsTr/phantom_0001.nii.gz",
        "labelsVal/phantom_0003.nii.gz",
    ]
    everything = " ".join(map(str, range(1, 15)))
    table = (tmp_path / "annotated.csv").read_text()
    assert table == f"case,classes\nphantom_0001,14\nphantom_0003,{everything}\n"
    made = corpus(0, CorpusPlan(0, 0, 0, 1, 1, 1))[2].make()
    for name, array in ((written[3], made.hu), (written[5], made.labels)):
        image = SimpleITK.ReadImage(str(tmp_path / name))
        assert np.array_equal(SimpleITK.GetArrayFromImage(image), array)
        z, y, x = (n - 1 for n in array.shape)
        far = made.geometry.direction_matrix @ (np.asarray((z, y, x)) * made.geometry.spacing)
        corner = image.TransformIndexToPhysicalPoint((x, y, z))
        assert np.allclose(corner, made.geometry.origin + far, atol=0.01)


def test_job_refuses_a_folder_of_another_corpus(tmp_path: Path) -> None:
    stranger = tmp_path / "imagesTr" / "somebody_0000.nii.gz"
    stranger.parent.mkdir()
    stranger.touch()
    refused = run_phantom_job("--out", str(tmp_path))
    assert refused.returncode == 1
    assert "somebody_0000.nii.gz" in refused.stderr
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [stranger]
