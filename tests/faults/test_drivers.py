"""Two drivers of one round at once, one of them with a wrong clock: they publish one layer."""

from __future__ import annotations

import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

from road import Road

from faults.disturbing import os1, running, same_layer
from pwsseg.store import Store
from pwsseg.store.records import Published
from pwsseg.store.verify import verify

SKEW = timedelta(days=3)


def wrong_clock(folder: Path) -> dict[str, str]:
    """The environment of a process, and of all its children, whose wall clock is three days slow."""
    library = folder / "clock.so"
    source = Path(__file__).with_name("clock.c")
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    return {"LD_PRELOAD": str(library), "CLOCK_SKEW": str(-int(SKEW.total_seconds()))}


def test_two_drivers_at_once_publish_one_layer_though_a_clock_is_wrong(
    ingested: Road, road: Road, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    shutil.copytree(ingested.store, store)
    one, two = (os1(ingested.settings, store, "--json-log", tmp_path / f"{n}.json") for n in (1, 2))
    with (
        running(one, tmp_path / "right") as right,
        running(two, tmp_path / "wrong", wrong_clock(tmp_path)) as wrong,
    ):
        for job in (right, wrong):
            assert "os1.v1" in job.done().expect(0).said
    same_layer(store, road.store)
    assert [r.id for r in Store.open(store).layers()] == ["annotation.v1", "os1.v1", "os1-targets.v1"]
    assert [r.id for r in Store.open(store).models()] == ["os1.v1"]
    assert not [f for f in verify(Store.open(store)) if f.level == "error"]


def test_a_wrong_clock_is_only_written_down(
    trained: Path, settings: Path, undisturbed: Path, tmp_path: Path
) -> None:
    """A layer that is older than its own model is published and read like any other."""
    with running(os1(settings, trained), tmp_path / "log", wrong_clock(tmp_path)) as job:
        job.done().expect(0)
    same_layer(trained, undisturbed)
    layer, model = Store.open(trained).layer("os1"), Store.open(trained).model("os1")
    assert isinstance(layer.state, Published)
    assert layer.state.created < model.trained.created
    created = datetime.strptime(layer.state.created, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    assert timedelta(days=2) < datetime.now(UTC) - created < timedelta(days=4)
