"""A store on S3: moto's server on loopback, behind a proxy that counts requests and fails on purpose."""

import os
import pickle
import subprocess
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from faults.disturbing import running
from filled_store import (
    CASES,
    GEOMETRY,
    add_annotation,
    add_scan,
    annotation_pins,
    filled_store,
    hu_volume,
    label_volume,
)
from road import (
    REPOSITORY,
    Road,
    clean_environment,
    command,
    job,
    registered_curve,
    round_job,
    write_settings,
)
from s3 import BUCKET, FAULTS, KEYS, Fault, Proxy, s3_server

from pwsseg.cli import main
from pwsseg.pipelines.job import store_location
from pwsseg.store import Source, Store, location
from pwsseg.store.objects import Objects
from pwsseg.store.verify import verify
from pwsseg.values import StoreError

SECRET = "only-the-environment-knows"
PREFIXES = count()


@pytest.fixture(scope="module")
def server() -> Iterator[Proxy]:
    with s3_server() as proxy:
        yield proxy


@pytest.fixture(autouse=True)
def environment(server: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [n for n in os.environ if n.startswith(("AWS_", "PWSSEG_"))]:
        monkeypatch.delenv(name)
    for name, value in {**KEYS, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_ENDPOINT_URL": server.url}.items():
        monkeypatch.setenv(name, value)
    server.plan = lambda _method, _path: None


@pytest.fixture
def where() -> str:
    return f"s3://{BUCKET}/test-{next(PREFIXES)}/store"


@pytest.fixture(scope="module")
def full(server: Proxy, tmp_path_factory: pytest.TempPathFactory) -> str:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**KEYS, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_ENDPOINT_URL": server.url}.items():
            patch.setenv(name, value)
        return filled_store(tmp_path_factory.mktemp("s3"), f"s3://{BUCKET}/full/").location


def test_a_store_on_s3_is_the_store_of_a_folder(full: str, tmp_path: Path) -> None:
    remote, local = Store.open(full), filled_store(tmp_path)
    assert remote.objects.keys("").keys() == local.objects.keys("").keys()
    assert [(f.level, f.where) for f in verify(remote)] == [("note", "layers/os1.v2")]
    assert remote.layer("os1").digest == local.layer("os1").digest
    assert (remote.scan("case-a").read() == local.scan("case-a").read()).all()
    window = remote.prepared("spacing-4-2-2").read("case-a")[0]
    assert (window == local.prepared("spacing-4-2-2").read("case-a")[0]).all()
    assert Store.create(full).cases() == list(CASES)


def test_no_secret_is_kept_anywhere(full: str) -> None:
    store = Store.open(full)
    parts = (store, store.scan("case-a"), store.layer("os1"), store.model("os1"), store.prepared("r"))
    assert SECRET.encode() not in pickle.dumps(parts)
    assert pickle.loads(pickle.dumps(parts))[2].cases() == list(CASES)
    objects = store.objects
    assert not [key for key in objects.keys("") if SECRET.encode() in (objects.read(key) or b"")]


def test_objects_of_others_are_left_alone(server: Proxy, where: str) -> None:
    Objects(where).write("notes.txt", b"x")
    for action in (Store.open, Store.create):
        with pytest.raises(StoreError, match="no store"):
            action(where)
    assert Objects(where).keys("") == {"notes.txt": 1}


@pytest.mark.parametrize("command", ["cases", "layers", "show os1", "diff annotation os1", "verify"])
def test_commands_answer_as_for_a_folder(
    command: str, full: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    local = filled_store(tmp_path).location
    answers = []
    for place in (local, full):
        assert main([*command.split(), "--store", place]) == 0
        answers.append([line.replace(place, "") for line in capsys.readouterr().out.splitlines()])
    if command not in ("layers", "show os1"):  # these say when it was published
        assert answers[0] == answers[1]
    assert len(answers[0]) == len(answers[1]) > 1


def test_a_store_on_s3_is_repaired_and_cleared_like_a_folder(
    where: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    remote, local = filled_store(tmp_path, where), filled_store(tmp_path)
    orphan = "layers/os1.v1/case-z/0/c/0/0/0"
    left = []
    for store in (remote, local):
        store.objects.write(orphan, b"x")
        place = ("--store", store.location)
        assert main(["verify", *place, "--repair", "--older-than", "0"]) == 0
        assert main(["retire", "os1.v1", "os1-fused.v1", "--model", "os1.v1", *place]) == 0
        assert main(["gc", *place]) == 0
        assert not list(verify(store))
        with pytest.raises(StoreError, match=r"os1\.v1 was retired and deleted"):
            store.layer("os1.v1")
        left.append(set(store.objects.keys("")))
    assert "deleted" in capsys.readouterr().out
    assert left[0] == left[1]
    assert not {key for key in left[0] if key.startswith(("layers/os1.v2/", "layers/os1.v1/case-"))}


# a bad day


@pytest.mark.parametrize("fault", FAULTS, ids=lambda f: f.__name__)
def test_a_layer_is_whole_though_every_put_fails_at_first(
    fault: Fault, server: Proxy, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(location, "REQUEST_S", 1.0)
    store = Store.create(where)
    for case in CASES[:2]:
        add_scan(store, case)
    seen: set[str] = set()

    def plan(method: str, path: str) -> Fault | None:
        new = f"{method} {path}" not in seen and method == "PUT" and "/layers/" in path
        seen.add(f"{method} {path}")
        return fault if new else None

    server.plan = plan
    layer = add_annotation(store)
    server.plan = lambda _method, _path: None
    assert len([s for s in seen if s.startswith("PUT")]) == 8
    assert [r.id for r in store.layers()] == ["annotation.v1"]
    assert layer.cases() == ["case-a", "case-b"]
    assert not list(verify(store))


def test_what_another_wrote_is_not_taken_for_a_lost_answer(server: Proxy, where: str) -> None:
    objects = Objects(where)
    server.failing(FAULTS[3], times=1)
    assert objects.create("key", b"ours")
    assert objects.create("key", b"ours")
    assert not objects.create("key", b"theirs")
    assert not objects.replace("key", b"theirs", b"x")
    assert not objects.replace("absent", b"", b"x")
    assert objects.replace("key", b"ours", b"next")
    assert objects.read("key") == b"next"


def test_of_two_publishers_the_second_confirms(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store.create(where)
    add_scan(store, "case-a")
    drafts = [store.draft(annotation_pins()) for _ in range(2)]
    drafts[0].write("case-a", label_volume(), annotated_classes=(1, 2, 14), seconds={})
    original, raced = Objects.replace, iter([True])

    def replace(self: Objects, key: str, old: bytes, new: bytes) -> bool:
        if next(raced, False):
            monkeypatch.setattr("pwsseg.store.draft.now", lambda: "2020-01-01T00:00:00Z")
            drafts[1].publish(["case-a"])
        return original(self, key, old, new)

    monkeypatch.setattr(Objects, "replace", replace)
    assert drafts[0].publish(["case-a"]).state.created == "2020-01-01T00:00:00Z"
    assert not list(verify(store))


# requests, as docs/store.md states them


def test_requests_are_as_few_as_the_manual_says(server: Proxy, where: str, tmp_path: Path) -> None:
    store = Store.create(where)
    source = Source(format="nifti", name="x", digest="6" * 64)
    with server.counted() as scan:
        store.write_scan("case-a", hu_volume(0), GEOMETRY, source=source, split="training")
    draft = store.draft(annotation_pins())
    with server.counted() as commit:
        draft.write("case-a", label_volume(), annotated_classes=(1, 2, 14), seconds={})
    with server.counted() as publish:
        layer = draft.publish(["case-a"])
    with server.counted() as labels:
        layer.labels("case-a")
    with server.counted() as volume:
        store.scan("case-a").read()
    with server.counted() as listing:
        store.layers()
    assert dict(scan) == {"get": 1, "put": 3}
    assert dict(commit) == {"get": 5, "put": 3}
    assert dict(publish) == {"get": 4, "put": 2, "list": 1}
    assert labels["get"] == 3
    assert volume["get"] == 3
    assert dict(listing) == {"list": 1, "get": 1}
    assert (
        len(store.objects.keys("scans/case-a")) == len(store.objects.keys("layers/annotation.v1/case-a")) == 3
    )


# sentences


def answering(status: int, code: str) -> Fault:
    body = f"<Error><Code>{code}</Code><Message>x</Message></Error>".encode()
    return lambda _proxy, handler: handler.answer(status, [], body)


@pytest.mark.parametrize(
    ("answer", "part"),
    [
        ((403, "AccessDenied"), "permission denied"),
        ((403, "InvalidAccessKeyId"), "does not accept the credentials"),
        ((403, "SignatureDoesNotMatch"), "does not accept the credentials"),
        ((400, "AuthorizationHeaderMalformed"), "AWS_REGION"),
        ((301, "PermanentRedirect"), "AWS_REGION"),
        ((403, "RequestTimeTooSkewed"), "clock"),
    ],
)
def test_what_s3_refuses_is_one_sentence(
    answer: tuple[int, str], part: str, server: Proxy, full: str, capsys: pytest.CaptureFixture[str]
) -> None:
    server.plan = lambda _method, _path: answering(*answer)
    refused(capsys, full, part)


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, "can't be reached"),
        ({"AWS_ENDPOINT_URL": "http://no-such-host.invalid"}, "can't be found"),
        ({"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, "no credentials"),
    ],
)
def test_what_never_reaches_s3_is_one_sentence(
    changes: dict[str, str],
    part: str,
    full: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(location, "RETRIES", 1)
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", "http://127.0.0.1:9")
    for name, value in changes.items():
        if value:
            monkeypatch.setenv(name, value)
        else:
            monkeypatch.delenv(name)
    refused(capsys, full, part)


def test_a_bucket_that_is_not_there_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    refused(capsys, "s3://no-such-bucket/store", "the bucket no-such-bucket does not exist")


def test_a_server_that_stays_broken_is_one_sentence(
    server: Proxy, full: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(location, "RETRIES", 1)
    server.plan = lambda _method, _path: FAULTS[1]
    refused(capsys, full, "run the same command again")


def test_a_job_ends_with_the_sentence_and_code_1(server: Proxy) -> None:
    done = subprocess.run(
        command("round", "--round", "os1", "--scale", "laptop", "--store", "s3://no-such-bucket/store"),
        cwd=REPOSITORY,
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: the bucket no-such-bucket does not exist")


def refused(capsys: pytest.CaptureFixture[str], place: str, part: str) -> None:
    assert main(["layers", place]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("pwsseg: ")
    assert part in err
    assert err.count("\n") == 1
    assert ";" in err, "what to do comes last"
    assert SECRET not in err


# jobs


def test_a_location_on_s3_is_no_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert store_location("s3://bucket/a/b/") == "s3://bucket/a/b"
    monkeypatch.setenv("PWSSEG_STORE", "s3://bucket")
    assert store_location(None) == "s3://bucket"
    monkeypatch.chdir(tmp_path)
    assert store_location("here") == str(tmp_path / "here")


def test_checkpoints_of_a_store_on_s3_lie_in_a_named_folder(
    full: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert Store.open(full).scratch().parent == tmp_path / "home" / ".cache" / "pwsseg"
    monkeypatch.setenv("PWSSEG_SCRATCH", str(tmp_path / "shared"))
    assert Store.open(full).scratch().parent == tmp_path / "shared"


def test_jobs_run_on_s3_and_a_training_goes_on_after_its_driver_died(
    ingested: Road, where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    corpus, scratch = ingested.corpus, tmp_path / ".cache" / "pwsseg"
    options = ("--images", corpus, "--annotated", corpus / "annotated.csv")
    job("ingest", "--store", where, *options).expect(0)
    settings = write_settings(tmp_path / "settings", ("epochs = 1\n", "epochs = 5\n"))
    training = command("round", "--round", "os1", "--scale", "tiny", "--settings", settings, "--store", where)
    with running(training, tmp_path / "log") as first:
        first.wait_until(lambda: len(registered_curve(scratch)) >= 2)
        first.driver.kill()
        first.driver.wait()
        before = registered_curve(scratch)
    round_job("os1", settings, where).expect(0)
    after = Store.open(where).model("os1").curve()
    assert after[: len(before)] == before
    assert len(after) == 5
    assert not list(scratch.rglob("checkpoint_*"))
    job("evaluate", "--store", where, "--layer", "os1").expect(0)
    assert not list(verify(Store.open(where)))
