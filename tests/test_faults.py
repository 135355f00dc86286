"""A driver that is killed without warning: the same command goes on, and the result is the same."""

import json
import re
import shutil
from pathlib import Path

import pytest
from road import Road, command, curves, killed_when, round_job, write_settings

from pwsseg.store import Store

EPOCHS = 6


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiny, but with several epochs and with windows so dense that a prediction can be caught half way."""
    return write_settings(
        tmp_path_factory.mktemp("slow") / "settings",
        ("epochs = 1\n", f"epochs = {EPOCHS}\n"),
        ("overlap = 0.25", "overlap = 0.875"),
        ("windows_a_batch = 4", "windows_a_batch = 1"),
        ("weight_decay", "weight_average = 0.9\nweight_decay"),
    )


def os1(settings: Path, store: Path) -> list[str]:
    return command("round", "--round", "os1", "--scale", "tiny", "--settings", settings, "--store", store)


def commits(store: Path) -> int:
    return len(list(store.glob("layers/os1.v1/*/zarr.json")))


@pytest.fixture(scope="module")
def trained(ingested: Road, settings: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store whose training was killed, resumed, and whose prediction was killed half way."""
    folder = tmp_path_factory.mktemp("killed")
    store = folder / "store"
    shutil.copytree(ingested.store, store)
    with killed_when(
        lambda: any(len(c) >= 3 for c in curves(store / "runs")), os1(settings, store), folder / "one"
    ):
        (folder / "curve.json").write_text(json.dumps(curves(store / "runs")[-1]))
    total = len(Store.open(store).cases()) - 2
    with killed_when(lambda: commits(store) >= 2, os1(settings, store), folder / "two"):
        assert 2 <= commits(store) < total
    return store


def test_training_goes_on_from_the_registered_checkpoint(trained: Path) -> None:
    before = json.loads((trained.parent / "curve.json").read_text())
    after = Store.open(trained).model("os1").curve()
    assert [row["epoch"] for row in after] == list(range(EPOCHS))
    assert after[: len(before) - 1] == before[:-1]
    said = (trained.parent / "two").read_text()
    epochs = next(line.split()[3] for line in said.splitlines() if "epochs " in line and "/6" in line)
    assert int(epochs.split("/")[0]) < EPOCHS, said


def test_prediction_killed_half_way_gives_the_same_layer(
    trained: Path, settings: Path, tmp_path: Path
) -> None:
    undisturbed = tmp_path / "undisturbed"
    shutil.copytree(trained, undisturbed)
    shutil.rmtree(undisturbed / "layers" / "os1.v1")
    done = commits(trained)
    resumed = round_job("os1", settings, trained).expect(0).said
    assert f"resuming os1.v1: {done} of 5 cases are done" in resumed
    assert "resuming" not in round_job("os1", settings, undisturbed).expect(0).said
    layers = [Store.open(store).layer("os1") for store in (trained, undisturbed)]
    assert layers[0].digest == layers[1].digest
    assert [layers[0].entry(c).digest for c in layers[0].cases()] == [
        layers[1].entry(c).digest for c in layers[1].cases()
    ]


def test_training_that_diverges_stops_and_names_step_and_cases(
    ingested: Road, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("diverged")
    settings = write_settings(
        folder / "settings",
        ("learning_rate = 0.003", "learning_rate = 1e30"),
        ("steps_an_epoch = 2", "steps_an_epoch = 20"),
    )
    store = folder / "store"
    shutil.copytree(ingested.store, store)
    said = round_job("os1", settings, store).expect(1).said
    named = r"the loss is (nan|inf) at epoch 0, step \d+, patches of phantom_\d+, .*lower learning_rate"
    assert re.search(named, said)
    assert "Traceback" not in said
    assert [layer.id for layer in Store.open(store).layers()] == ["annotation.v1", "os1-targets.v1"]
