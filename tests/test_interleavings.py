"""Several processes on one layer, step by step in every order that Hypothesis thinks of; and killed ones.

Each actor is a thread that stops before each of its operations on objects; the drawn numbers say whose turn
it is. So what is tried is what counts: who comes first at each put.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import pytest
from filled_store import CASES, CLASSES, add_annotation, add_scan, annotation_pins, label_volume
from hypothesis import example, given, settings
from hypothesis import strategies as st
from obstore.store import LocalStore, MemoryStore
from road import REPOSITORY

from pwsseg.store import Store
from pwsseg.store.digests import array_digest
from pwsseg.store.handover import forget_successor, replace_file
from pwsseg.store.objects import Objects
from pwsseg.store.verify import verify
from pwsseg.values import StoreError

Kind = Literal["memory", "local"]
STEPS = ("read", "write", "create", "replace", "remove", "keys", "folders", "array")
WANTED = CASES[:2]
TURNS = st.lists(st.integers(0, 5), min_size=1, max_size=60)


@contextmanager
def backend(kind: Kind) -> Iterator[tuple[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        yield folder, MemoryStore() if kind == "memory" else LocalStore(folder)


class Stepped(Objects):
    """Objects whose every operation waits for its turn."""

    def __init__(self, location: str, there: Any, turn: Callable[[], None]) -> None:
        super().__init__(location, there)
        self.turn = turn


def _waiting(name: str) -> Callable[..., Any]:
    def operation(self: Stepped, *arguments: Any) -> Any:
        self.turn()
        return getattr(super(Stepped, self), name)(*arguments)

    return operation


for _name in STEPS:
    setattr(Stepped, _name, _waiting(_name))


class Actor:
    """One process as a thread that makes one step whenever it is told to."""

    def __init__(self, work: Callable[[Store], Any], location: str, there: Any) -> None:
        self.outcome: Any = None
        self.error: BaseException | None = None
        self._go, self._stopped = threading.Semaphore(0), threading.Semaphore(0)
        self.done = False
        self._work, self._objects = work, Stepped(location, there, self._turn)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        self._stopped.acquire()

    def step(self) -> None:
        """Let it go on to its next operation, or to its end."""
        self._go.release()
        assert self._stopped.acquire(timeout=120)

    def _turn(self) -> None:
        self._stopped.release()
        self._go.acquire()

    def _run(self) -> None:
        try:
            self.outcome = self._work(Store.of(self._objects))
        except BaseException as error:
            self.error = error
        self.done = True
        self._stopped.release()


def interleaved(
    work: Sequence[Callable[[Store], Any]], turns: list[int], location: str, there: Any
) -> list[Actor]:
    """All actors to their end, in the order of the turns, which are used round and round."""
    actors = [Actor(w, location, there) for w in work]
    for number in range(100_000):
        alive = [a for a in actors if not a.done]
        if not alive:
            return actors
        alive[turns[number % len(turns)] % len(alive)].step()
    raise AssertionError("the actors never end")


def new_store(location: str, there: Any) -> Store:
    store = Store.begin(Objects(location, there))
    for case in CASES:
        add_scan(store, case)
    return store


def drives(store: Store) -> tuple[str, str]:
    layer = add_annotation(store, WANTED)
    return layer.id, layer.digest


def drives_backwards(store: Store) -> tuple[str, str]:
    draft = store.draft(annotation_pins())
    for case in reversed(WANTED):
        draft.write(case, label_volume(), annotated_classes=CLASSES, seconds={"read": 0.7})
    layer = draft.publish(WANTED)
    return layer.id, layer.digest


def writes_other_labels(store: Store) -> None:
    """A second writer of a case who does not even agree, and of one that nobody wants."""
    draft = store.draft(annotation_pins())
    draft.write("case-a", label_volume(1), annotated_classes=CLASSES, seconds={})
    draft.write("case-c", label_volume(), annotated_classes=CLASSES, seconds={})


def discards(store: Store) -> None:
    store.draft(annotation_pins()).discard()


def reads(store: Store) -> int:
    """What is there is whole: every case of a layer that can be opened, voxels as their record says."""
    seen = 0
    for _ in range(4):
        try:
            layer = store.layer("annotation")
        except StoreError as error:
            if "no layer" in str(error) or "unfinished draft" in str(error):
                continue
            raise
        assert layer.cases() == list(WANTED)
        for case in WANTED:
            assert array_digest(layer.labels(case)) == layer.entry(case).digest
            seen += 1
    return seen


def errors(store: Store) -> list[Any]:
    return [f for f in verify(store) if f.level == "error"]


@pytest.mark.parametrize("kind", ["memory", "local"])
@settings(max_examples=15)
@given(turns=TURNS)
@example(turns=[5, 3, 5])  # one commits and publishes between two looks of the other
def test_two_drivers_make_one_layer_that_readers_only_see_whole(kind: Kind, turns: list[int]) -> None:
    with backend(kind) as (location, there):
        store = new_store(location, there)
        first, second, reader = interleaved((drives, drives_backwards, reads), turns, location, there)
        assert (first.error, second.error, reader.error) == (None, None, None)
        assert first.outcome == second.outcome
        assert [r.id for r in store.layers()] == ["annotation.v1"]
        assert not errors(store)


@pytest.mark.parametrize("kind", ["memory", "local"])
@settings(max_examples=15)
@given(turns=TURNS)
def test_a_second_writer_of_a_case_does_no_harm(kind: Kind, turns: list[int]) -> None:
    with backend(kind) as (location, there):
        store = new_store(location, there)
        driver, other, reader = interleaved((drives, writes_other_labels, reads), turns, location, there)
        assert (driver.error, reader.error) == (None, None)
        assert other.error is None or isinstance(other.error, StoreError)
        assert drives(store) == driver.outcome
        assert not errors(store)


@pytest.mark.parametrize("kind", ["memory", "local"])
@settings(max_examples=15)
@given(turns=TURNS)
def test_a_draft_discarded_under_its_writers_is_gone_or_published_whole(kind: Kind, turns: list[int]) -> None:
    with backend(kind) as (location, there):
        store = new_store(location, there)
        actors = interleaved((drives, discards, reads), turns, location, there)
        assert all(a.error is None or isinstance(a.error, StoreError) for a in actors), actors[0].error
        assert not errors(store)
        drives(store)
        assert not errors(store)


@settings(max_examples=50)
@given(turns=TURNS, dies=st.integers(0, 20))
def test_one_of_two_replacements_of_a_file_wins_even_if_the_other_dies(turns: list[int], dies: int) -> None:
    """The local stand-in for If-Match, stepped at every system call; the first actor may die at one."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "record.json"
        path.write_bytes(b"draft")
        outcomes = stepped_replacements(path, turns, dies)
        content = path.read_bytes()
        assert content in (b"draft", b"one", b"two")
        for name, won in outcomes.items():
            assert won is None or won == (content == name.encode())
        if content == b"draft":
            assert outcomes["two"] is None or outcomes["one"] is None
        assert replace_file(path, b"draft", b"three") == (path.read_bytes() == b"three")
        forget_successor(path)


def stepped_replacements(path: Path, turns: list[int], dies: int) -> dict[str, bool | None]:
    """Two replacements of one file, stopped at each call of the file system; None for the one that died."""
    actors = {}
    go = {name: threading.Semaphore(0) for name in ("one", "two")}
    stopped = {name: threading.Semaphore(0) for name in go}
    left = {"one": dies, "two": 10**6}
    outcomes: dict[str, bool | None] = dict.fromkeys(go)
    done: set[str] = set()

    class DiedError(BaseException):
        pass

    def turn() -> None:
        name = threading.current_thread().name
        if name not in go:
            return
        stopped[name].release()
        go[name].acquire()
        left[name] -= 1
        if left[name] < 0:
            raise DiedError

    def run(name: str) -> None:
        try:
            turn()
            outcomes[name] = replace_file(path, b"draft", name.encode())
        except DiedError:
            pass
        finally:
            done.add(name)
            stopped[name].release()

    with pytest.MonkeyPatch.context() as patch:
        for module, names in (
            (Path, ("read_bytes", "write_bytes", "replace", "unlink")),
            (os, ("link",)),
        ):
            for call in names:
                original = getattr(module, call)

                def stepping(*arguments: Any, _original: Any = original, **named: Any) -> Any:
                    turn()
                    return _original(*arguments, **named)

                patch.setattr(module, call, stepping)
        for name in go:
            actors[name] = threading.Thread(target=run, args=(name,), name=name, daemon=True)
            actors[name].start()
            stopped[name].acquire()
        number = 0
        while alive := [n for n in go if n not in done]:
            name = alive[turns[number % len(turns)] % len(alive)]
            number += 1
            go[name].release()
            assert stopped[name].acquire(timeout=60)
    return outcomes


def test_after_twenty_kills_every_store_is_whole() -> None:
    command = [sys.executable, str(REPOSITORY / "benchmarks" / "kills.py"), "--kills", "20", "--seed", "7"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=590)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    assert figures["kills"] == figures["verified"] >= 20
