"""Labels that drift from those before them are not published, unless a person says why."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from road import Road, answer, round_job, tree, write_settings

from pwsseg.arrays.drift import DriftLimits, drifts
from pwsseg.store import Layer, Store
from pwsseg.values import FLARE23

LIMITS = DriftLimits(dsc_drop=0.05, volume_factor=2.0, tumor_factor=2.0)


def case(
    *,
    liver_ml: tuple[float, float] = (1500.0, 1500.0),
    dsc: tuple[float, float] = (0.9, 0.9),
    tumor_dsc: tuple[float, float] | None = None,
    tumors: tuple[int, int] | None = None,
) -> dict[str, Any]:
    scores = {1: dsc} | ({14: tumor_dsc} if tumor_dsc else {})
    return {"ml": {1: liver_ml}, "dsc": scores, "tumors": tumors}


@pytest.mark.parametrize(
    ("cases", "said"),
    [
        ([case()] * 6, []),
        ([case(dsc=(0.90, 0.86))] * 6, []),
        ([case(dsc=(0.90, 0.84))] * 6, ["held-out mean organ DSC 0.840, 0.900 before (limit: 0.05 less)"]),
        ([case(dsc=(0.60, 0.90))] * 6, []),
        ([case(tumor_dsc=(0.3, 0.2))] * 6, ["held-out tumor DSC 0.200, 0.300 before (limit: 0.05 less)"]),
        (
            [case(liver_ml=(1500, 4500))] * 6,
            ["liver has 3.00 times the volume it had, in the median of 6 cases (limit: a factor of 2)"],
        ),
        (
            [case(liver_ml=(1500, 500))] * 6,
            ["liver has 0.33 times the volume it had, in the median of 6 cases (limit: a factor of 2)"],
        ),
        ([case(liver_ml=(1500, 4500))] * 4, []),
        ([case(liver_ml=(15, 1500), dsc=(0.1, 0.7))] * 6, []),
        ([case(liver_ml=(0, 1500))] * 6, []),
        (
            [case(liver_ml=(1500, 0))] * 4 + [case()] * 2,
            ["liver is found in 2 cases, in 6 before (limit: a factor of 2)"],
        ),
        ([case(tumors=(2, 4))] * 3, []),
        (
            [case(tumors=(2, 5))] * 3,
            ["the held-out cases hold 15 tumors, 6 before (limit: a factor of 2)"],
        ),
        ([case(tumors=(2, 0)), case(tumors=(2, 0))], []),
        ([], []),
    ],
)
def test_what_lies_beyond_the_limits_is_said(cases: list[dict[str, Any]], said: list[str]) -> None:
    assert list(drifts(cases, LIMITS)) == said


def publish_what_is_true(store: Store) -> Layer:
    """A version of os1 with the held-out truth: networks that have learnt nothing must drift from it."""
    annotation, guessed = store.layer("annotation"), store.layer("os1")
    draft = store.draft(guessed.record.pins.model_copy(update={"code": "by hand"}))
    for case in guessed.cases():
        truth = annotation.labels(case) if annotation.find(case) else guessed.labels(case)
        organs = np.where(np.isin(truth, FLARE23.organs), truth, 0).astype(np.uint8)
        draft.write(case, organs, annotated_classes=FLARE23.organs, seconds={})
    return draft.publish(guessed.cases())


def test_drifted_round_stays_a_draft_until_a_reason_is_given(road: Road, tmp_path: Path) -> None:
    store = tmp_path / "store"
    shutil.copytree(road.store, store)
    right = publish_what_is_true(Store.open(store))
    settings = write_settings(tmp_path / "settings", drift=True)
    published = {layer["id"] for layer in answer("layers", store)}
    refused = round_job("os2", settings, store).expect(1)
    assert "Traceback" not in refused.said
    assert "os2.v2 is not published: it drifted from os1.v2 beyond the round's [drift] limits" in refused.said
    assert "drift from os1.v2: held-out mean organ DSC 0." in refused.said
    states = {layer["id"]: layer["state"]["state"] for layer in answer("layers", store)}
    assert states["os2.v2"] == "draft"
    assert set(states) == published | {"os2-targets.v2", "os2.v2"}

    written = tree(store / "layers" / "os2.v2")
    accepted = round_job("os2", settings, store, "--accept-drift", "new scanner").expect(0)
    assert "published os2.v2" in accepted.said
    after = tree(store / "layers" / "os2.v2")
    assert all(after[name] == digest for name, digest in written.items() if name != "zarr.json")
    state = answer("show", "os2", "--store", store)["state"]
    assert state["accepted_drift"]["reason"] == "new scanner"
    assert state["accepted_drift"]["since"] == right.pin.model_dump()
    assert state["accepted_drift"]["found"]
    assert answer("verify", store)["errors"] == 0
