import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings
from road import Road, job, write_settings

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"

PLAN = {
    "organs": 2,
    "five-organs": 1,
    "five-organs-and-tumor": 1,
    "tumor-only": 1,
    "unannotated": 1,
    "validation": 1,
}

# how long an example takes says how busy the machine is, not whether the code is right
settings.register_profile("pwsseg", deadline=None)
settings.load_profile("pwsseg")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real CTs beside the repository; without them the tests fail, since made-up files prove too little."""
    if not (SHARED_DATA / "flare" / "imagesTr").is_dir():
        pytest.fail(f"{SHARED_DATA} is missing; the tests on real scans need it")
    return SHARED_DATA


@pytest.fixture(scope="session")
def ingested(tmp_path_factory: pytest.TempPathFactory) -> Road:
    """Seven phantoms, one or two of each kind of annotation, in a store of their own."""
    folder = tmp_path_factory.mktemp("road")
    corpus, store = folder / "corpus", folder / "store"
    counts = [word for kind, count in PLAN.items() for word in (f"--{kind}", count)]
    job("phantom", "--out", corpus, *counts).expect(0)
    said = job(
        "ingest", "--store", store, "--images", corpus, "--annotated", corpus / "annotated.csv"
    ).expect(0)
    return Road(corpus, write_settings(folder / "settings"), store, said.said)


@pytest.fixture(scope="session")
def road(ingested: Road, tmp_path_factory: pytest.TempPathFactory) -> Road:
    """The same corpus after all four rounds; tests that write take a copy of the store."""
    store = tmp_path_factory.mktemp("all-rounds") / "store"
    shutil.copytree(ingested.store, store)
    boards = store.parent / "boards"
    said = ingested.round("all", "--tensorboard", boards, store=store).expect(0).said
    return Road(ingested.corpus, ingested.settings, store, said)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Arrays this small are slower on several."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
