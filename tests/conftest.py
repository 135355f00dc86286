from pathlib import Path

import pytest
from hypothesis import settings

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"

# how long an example takes says how busy the machine is, not whether the code is right
settings.register_profile("pwsseg", deadline=None)
settings.load_profile("pwsseg")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real CTs beside the repository; without them the tests fail, since made-up files prove too little."""
    if not (SHARED_DATA / "flare" / "imagesTr").is_dir():
        pytest.fail(f"{SHARED_DATA} is missing; the tests on real scans need it")
    return SHARED_DATA
