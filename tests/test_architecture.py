"""DESIGN.md's table of rooms, held: a module imports from rooms below its own, and from no room above."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

ROOMS = (
    "jobs",
    "pwsseg/cli",
    "pwsseg/pipelines",
    "pwsseg/rounds.py",
    "pwsseg/report",
    "pwsseg/formats",
    "pwsseg/store",
    "pwsseg/networks",
    "pwsseg/arrays",
    "pwsseg/values",
)
"""From the top down; a row imports only from rows below it, and from itself where it is a folder."""

ONLY_IN = {
    "ray": {"pwsseg/pipelines"},
    "matplotlib": {"pwsseg/report"},
    "neuroglancer": {"pwsseg/report"},
    "SimpleITK": {"pwsseg/formats"},
    "zarr": {"pwsseg/store"},
    "numcodecs": {"pwsseg/store"},
    "google_crc32c": {"pwsseg/store"},
    "obstore": {"pwsseg/store"},
    "pyarrow": {"pwsseg/store", "pwsseg/pipelines"},
    "torch": {"pwsseg/networks", "pwsseg/arrays", "pwsseg/pipelines"},
    "safetensors": {"pwsseg/pipelines"},
    "tensorboardX": {"pwsseg/pipelines"},
    "cc3d": {"pwsseg/arrays"},
    "surface_distance": {"pwsseg/arrays"},
    "scipy": {"pwsseg/arrays", "pwsseg/report"},
    "numpy": set(ROOMS) - {"jobs", "pwsseg/cli", "pwsseg/rounds.py"},
    "pydantic": set(ROOMS) - {"jobs", "pwsseg/cli", "pwsseg/report"},
}
"""Every library outside the standard one, and the rooms that may know it."""

EXECUTES = {"pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve", "yaml"}
"""What would run code that it finds in data (law 8)."""

MODULES = sorted(
    p.relative_to(ROOT).as_posix()
    for top in ("pwsseg", "jobs")
    for p in (ROOT / top).rglob("*.py")
    if p.relative_to(ROOT).as_posix() != "pwsseg/__init__.py"
)


def room_of(path: str) -> str | None:
    """The row of a module, given as a path from the repository's root."""
    return next((r for r in ROOMS if path == r or path.startswith(f"{r}/")), None)


def imported(tree: ast.AST) -> Iterator[str]:
    """The dotted name of everything imported at any depth, inside functions too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: a relative import hides its room"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room_imported(name: str) -> str | None:
    """The row that an imported `pwsseg.x.y` or `jobs.x` lies in."""
    parts = name.split(".")
    candidates = ["/".join(parts[:n]) for n in range(1, len(parts) + 1)]
    return next((r for c in candidates for r in (room_of(c), room_of(f"{c}.py")) if r), None)


def faults(path: str, source: str) -> list[str]:
    """What the imports of a module break."""
    own = room_of(path)
    if own is None:
        return [f"{path} has no row in the table"]
    found = []
    for name in imported(ast.parse(source)):
        library = name.partition(".")[0]
        if library in ("pwsseg", "jobs"):
            room = room_imported(name)
            if room is None:
                found.append(f"{path} imports {name}, which has no row")
            elif room == "jobs" or ROOMS.index(room) < ROOMS.index(own):
                found.append(f"{path} imports {name} from a room above")
        elif library not in sys.stdlib_module_names and own not in ONLY_IN.get(library, set()):
            found.append(f"{path} imports {name}, which {own} may not know")
    return found


@pytest.mark.parametrize("path", MODULES)
def test_module_imports_only_from_rooms_below(path: str) -> None:
    assert faults(path, (ROOT / path).read_text(encoding="utf-8")) == []


def test_every_room_of_the_table_exists() -> None:
    assert {room_of(m) for m in MODULES} == set(ROOMS)


@pytest.mark.parametrize(
    ("path", "source", "fault"),
    [
        ("pwsseg/arrays/x.py", "from pwsseg.store import Store", "room above"),
        ("pwsseg/store/x.py", "from pwsseg.rounds import load_round", "room above"),
        ("pwsseg/rounds.py", "import pwsseg.pipelines.train", "room above"),
        ("pwsseg/pipelines/x.py", "def f():\n    from pwsseg import cli", "room above"),
        ("pwsseg/pipelines/x.py", "from jobs.round import main", "room above"),
        ("pwsseg/report/x.py", "def f():\n    import ray", "may not know"),
        ("pwsseg/store/x.py", "import torch.nn", "may not know"),
        ("pwsseg/values/x.py", "import pandas", "may not know"),
        ("pwsseg/arrays/x.py", "from pwsseg.helpers import x", "no row"),
        ("pwsseg/helpers.py", "import numpy", "no row"),
    ],
)
def test_table_catches_an_import_that_breaks_it(path: str, source: str, fault: str) -> None:
    assert [f for f in faults(path, source) if fault in f]


@pytest.mark.parametrize("path", [*MODULES, "pwsseg/__init__.py"])
def test_file_has_at_most_350_lines(path: str) -> None:
    assert len((ROOT / path).read_text(encoding="utf-8").splitlines()) <= 350


def executing(source: str) -> list[str]:
    """Calls and imports that could run code found in data."""
    tree = ast.parse(source)
    found = [name for name in imported(tree) if name.partition(".")[0] in EXECUTES]
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        call = ast.unparse(node.func)
        said = {k.arg: ast.unparse(k.value) for k in node.keywords}
        if call in ("torch.load", "torch.jit.load", "eval", "exec") and said.get("weights_only") != "True":
            found.append(ast.unparse(node))
        if said.get("allow_pickle", "False") != "False":
            found.append(ast.unparse(node))
    return found


@pytest.mark.parametrize("path", [*MODULES, "pwsseg/__init__.py"])
def test_module_loads_nothing_that_could_execute(path: str) -> None:
    assert executing((ROOT / path).read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "def f():\n    from yaml import load",
        "torch.load(p)",
        "torch.load(p, weights_only=False)",
        "np.load(p, allow_pickle=True)",
        "eval(text)",
    ],
)
def test_loading_what_could_execute_is_seen(source: str) -> None:
    assert executing(source)
