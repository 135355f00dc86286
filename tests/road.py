"""Jobs as people run them: each in a process of its own, with a tiny scale, and what they leave behind."""

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
JOBS = REPOSITORY / "jobs"
PATIENCE_S = 1200


@dataclass(frozen=True)
class Done:
    """How a job ended and all that it said, stdout and stderr in one."""

    code: int
    said: str

    def expect(self, code: int) -> "Done":
        assert self.code == code, self.said
        return self


@dataclass(frozen=True)
class Road:
    """A corpus, the settings and the store that the rounds went through."""

    corpus: Path
    settings: Path
    store: Path
    said: str

    def round(self, name: str, *options: object, store: Path | None = None) -> Done:
        return round_job(name, self.settings, store or self.store, *options)


def job(name: str, *options: object, environment: dict[str, str] | None = None) -> Done:
    """Run jobs/<name>.py to its end."""
    return ended(command(name, *options), clean_environment() | (environment or {}))


def ended(arguments: list[str], environment: dict[str, str]) -> Done:
    """Run a command in the repository to its end."""
    done = subprocess.run(
        arguments,
        cwd=REPOSITORY,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        timeout=PATIENCE_S,
        check=False,
    )
    return Done(done.returncode, done.stdout)


def round_job(name: str, settings: Path, store: Path | str, *options: object) -> Done:
    return job(
        "round", "--round", name, "--scale", "tiny", "--settings", settings, "--store", store, *options
    )


def command(name: str, *options: object) -> list[str]:
    return [sys.executable, str(JOBS / f"{name}.py"), *map(str, options)]


def clean_environment() -> dict[str, str]:
    """The environment without what would lead a job to a cluster or store that is not the test's."""
    return {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "PWSSEG_"))}


def answer(*arguments: object) -> Any:
    """What `pwsseg ... --json` says."""
    done = subprocess.run(
        [sys.executable, "-m", "pwsseg.cli", *map(str, arguments), "--json"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def write_settings(folder: Path, *changes: tuple[str, str], drift: bool = False) -> Path:
    """The project's own rounds beside the tiny scale, with texts replaced; each must be there to replace.

    Without `drift` the gate is left out: labels of networks that have learnt nothing drift as they please.
    """
    shutil.copytree(JOBS / "rounds", folder / "rounds")
    shutil.copytree(REPOSITORY / "tests" / "scales", folder / "scales")
    files = [*folder.glob("*/*.toml")]
    for old, new in changes:
        hit = [f for f in files if old in f.read_text()]
        assert hit, f"no settings file holds {old!r}"
        for file in hit:
            file.write_text(file.read_text().replace(old, new))
    if not drift:
        for file in (folder / "rounds").glob("*.toml"):
            file.write_text(re.sub(r"\[drift\]\n(\w.*\n)+", "", file.read_text()))
    return folder


def tree(folder: Path) -> dict[str, str]:
    """Every file of a folder and the digest of its bytes."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def end_session(session: int) -> None:
    """End what a driver that was killed left of its own Ray: all processes of its session, no others."""
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                fields = (process / "stat").read_text().rpartition(")")[2].split()
                if int(fields[3]) == session:
                    os.kill(int(process.name), signal.SIGKILL)
            except (FileNotFoundError, ProcessLookupError):
                continue


def registered_curve(scratch: Path) -> list[dict[str, float]]:
    """The training curve up to the last checkpoint that Ray has registered: what a fault can't take away."""
    found: list[list[dict[str, float]]] = [[]]
    for folder, _, _ in os.walk(scratch):  # not rglob, which stumbles over a checkpoint that is just deleted
        try:
            snapshot = Path(folder, "checkpoint_manager_snapshot.json").read_text()
            last = json.loads(snapshot)["latest_checkpoint_result"]
            if last is not None:
                curve = Path(folder, last["checkpoint_dir_name"], "curve.json")
                found.append(json.loads(curve.read_text()))
        except (FileNotFoundError, json.JSONDecodeError):  # still being written, or gone already
            continue
    return max(found, key=len)
