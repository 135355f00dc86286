"""Processes that are killed without warning: the round goes on, or the same command does, to the same end."""

import re
import shutil
from pathlib import Path

import pytest
from road import Road, end_session, round_job, write_settings

from faults.disturbing import EPOCHS, PREDICTS, TRAINS, commits, epochs, held, os1, running, same_layer
from pwsseg.store import Store


@pytest.fixture(scope="module")
def killed(ingested: Road, settings: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store whose training lost a worker, then its driver; whose prediction lost its driver half way."""
    folder = tmp_path_factory.mktemp("killed")
    store = folder / "store"
    shutil.copytree(ingested.store, store)
    with running(os1(settings, store), folder / "one") as job:
        job.wait_until(lambda: epochs(store) >= 2)
        job.kill(TRAINS)
        job.wait_until(lambda: epochs(store) >= 4)
        with held(TRAINS, session=job.driver.pid):  # workers outlive their driver for a while
            job.driver.kill()
            (folder / "epochs").write_text(str(epochs(store)))
            end_session(job.driver.pid)
    with running(os1(settings, store), folder / "two") as job:
        job.wait_until(lambda: commits(store) >= 2)
        job.driver.kill()
        assert 2 <= commits(store) < len(Store.open(store).cases()) - 2
    return store


def test_training_goes_on_from_the_registered_checkpoint(killed: Path, undisturbed: Path) -> None:
    model, wanted = (Store.open(store).model("os1") for store in (killed, undisturbed))
    assert model.curve() == wanted.curve()
    assert model.digest == wanted.digest
    said = re.search(r"resumed after epoch (\d)", (killed.parent / "two").read_text())
    assert said is not None
    assert 4 <= int((killed.parent / "epochs").read_text()) <= int(said[1]) < EPOCHS


def test_prediction_killed_half_way_gives_the_same_layer(
    killed: Path, settings: Path, undisturbed: Path
) -> None:
    done = commits(killed)
    resumed = round_job("os1", settings, killed).expect(0).said
    assert f"resuming os1.v1: {done} of 5 cases are done" in resumed
    same_layer(killed, undisturbed)


def test_killed_actor_and_worker_lose_no_case(
    trained: Path, settings: Path, undisturbed: Path, tmp_path: Path
) -> None:
    with running(os1(settings, trained), tmp_path / "log") as job:
        job.wait_until(lambda: commits(trained) >= 1)
        job.kill(PREDICTS)
        job.kill("MapBatches(_Guarded)")
        assert commits(trained) < 5
        said = job.done().expect(0).said
    assert "resuming" not in said
    same_layer(trained, undisturbed)


def test_job_that_is_told_to_stop_says_that_what_is_done_is_kept(
    ingested: Road, trained: Path, settings: Path, tmp_path: Path
) -> None:
    """As `ray job stop` and Kubernetes tell it: in training, then in prediction."""
    store = tmp_path / "other"
    shutil.copytree(ingested.store, store)
    moments = ((store, lambda: epochs(store) >= 1), (trained, lambda: commits(trained) >= 1))
    for place, there in moments:
        with running(os1(settings, place), tmp_path / "log") as job:
            job.wait_until(there)
            job.driver.terminate()
            said = job.done().expect(130).said
        assert said.endswith("interrupted; what is done is kept, the same command goes on from there\n")
        assert "Traceback" not in said
        assert "os1.v1" not in {r.id for r in Store.open(place).layers() if r.state.state == "published"}


def test_training_that_diverges_stops_and_names_step_and_cases(ingested: Road, tmp_path: Path) -> None:
    settings = write_settings(
        tmp_path / "settings",
        ("learning_rate = 0.003", "learning_rate = 1e30"),
        ("steps_an_epoch = 2", "steps_an_epoch = 20"),
    )
    store = tmp_path / "store"
    shutil.copytree(ingested.store, store)
    said = round_job("os1", settings, store).expect(1).said
    named = r"the loss is (nan|inf) at epoch 0, step \d+, patches of phantom_\d+, .*lower learning_rate"
    assert re.search(named, said)
    assert "Traceback" not in said
    assert [layer.id for layer in Store.open(store).layers()] == ["annotation.v1", "os1-targets.v1"]
