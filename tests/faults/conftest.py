import shutil
from pathlib import Path

import pytest
from road import Road, round_job, write_settings

from faults.disturbing import EPOCHS


@pytest.fixture(scope="session")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiny, but with several epochs and with windows so dense that a prediction can be caught half way."""
    return write_settings(
        tmp_path_factory.mktemp("slow") / "settings",
        ("epochs = 1\n", f"epochs = {EPOCHS}\n"),
        ("overlap = 0.25", "overlap = 0.875"),
        ("windows_a_batch = 4", "windows_a_batch = 1"),
        ("weight_decay", "weight_average = 0.9\nweight_decay"),
    )


@pytest.fixture(scope="session")
def undisturbed(ingested: Road, settings: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store after a round os1 that nothing happened to."""
    store = tmp_path_factory.mktemp("undisturbed") / "store"
    shutil.copytree(ingested.store, store)
    round_job("os1", settings, store).expect(0)
    return store


@pytest.fixture
def trained(undisturbed: Path, tmp_path: Path) -> Path:
    """The same before its prediction."""
    store = tmp_path / "store"
    shutil.copytree(undisturbed, store)
    shutil.rmtree(store / "layers" / "os1.v1")
    return store
