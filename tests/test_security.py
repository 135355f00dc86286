"""Ids, symbolic links and pages of other origins reach nothing that they should not."""

from __future__ import annotations

import http.client
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from filled_store import CASES, CLASSES, GEOMETRY, hu_volume, label_volume, prediction_pins, store_at_work
from fuzzed import restated, sealed

from pwsseg.cli import main
from pwsseg.formats.annotated import read_annotated
from pwsseg.formats.cases import find_cases
from pwsseg.report.serving import serving
from pwsseg.report.viewer import layers_of, showing
from pwsseg.store import LayerDraft, Source, Store
from pwsseg.store.graph import Key
from pwsseg.store.keys import check_key, remove_file
from pwsseg.store.objects import Objects
from pwsseg.store.repair import repair
from pwsseg.store.retention import collect, retire
from pwsseg.store.verify import verify
from pwsseg.values import InputError, PwssegError, StoreError

NOW = timedelta(0)
OS1 = [Key("layers", "os1.v1"), Key("layers", "os1-fused.v1"), Key("models", "os1.v1")]

TRICKS = (
    *("", ".", "..", "../x", "../../etc/passwd", "/etc/passwd", "a/b", "a\\b", "a//b", "./a", "a/..", "~/a"),
    *("a\0b", "a\nb", ".hidden", "a b", "-a", "%2e%2e%2fx", "x" * 65, "\u2025", "\uff0e\uff0e", "a\u202eb"),
)
"""What must never become a folder or a file name."""


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return store_at_work(tmp_path_factory.mktemp("security"))


@pytest.fixture
def store(pristine: Store, tmp_path: Path) -> Store:
    shutil.copytree(pristine.location, tmp_path / "store")
    return Store.open(tmp_path / "store")


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, with its bytes; links are followed."""
    paths = (Path(at) / name for at, _, names in os.walk(folder, followlinks=True) for name in names)
    return {str(p.relative_to(folder)): p.read_bytes() for p in paths}


def moved_out(store: Store, key: str, outside: Path) -> Path:
    """Put a part of the store elsewhere, and a symbolic link in its place."""
    inside = Path(store.location) / key
    target = outside / inside.name
    outside.mkdir(exist_ok=True)
    shutil.move(inside, target)
    inside.symlink_to(target)
    return inside


# keys and ids


LEAVING = [t for t in TRICKS if {"", ".", ".."} & set(t.split("/")) or {"\0", "\n", "\\"} & set(t)]


@pytest.mark.parametrize("key", LEAVING)
def test_no_key_leaves_the_store(key: str, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"secret")
    (tmp_path / "store").mkdir()
    objects = Objects(str(tmp_path / "store"))
    calls: tuple[Callable[[], object], ...] = (
        lambda: objects.read(f"scans/{key}/zarr.json"),
        lambda: objects.parts(f"scans/{key}/zarr.json", [(0, 3)]),
        lambda: objects.write(f"scans/{key}/zarr.json", b"x"),
        lambda: objects.create(f"scans/{key}/zarr.json", b"x"),
        lambda: objects.begin(f"scans/{key}/zarr.json", b"x"),
        lambda: objects.replace(f"scans/{key}/zarr.json", b"secret", b"x"),
        lambda: objects.remove(f"scans/{key}/zarr.json"),
        lambda: objects.keys(f"scans/{key}/zarr.json"),
        lambda: objects.written(f"scans/{key}/zarr.json"),
        lambda: objects.folders(f"scans/{key}/zarr.json"),
        lambda: objects.array(f"scans/{key}/zarr.json"),
    )
    for call in calls:
        with pytest.raises(StoreError, match="is no place in a store"):
            call()
    assert tree(tmp_path) == {"x": b"secret"}


def test_keys_that_the_store_has_are_keys(store: Store) -> None:
    for key in store.objects.keys(""):
        assert check_key(key) == key


@pytest.mark.parametrize("case", TRICKS)
def test_no_case_id_leaves_the_store(store: Store, case: str) -> None:
    before = tree(Path(store.location).parent)
    layer, source = store.layer("os1"), Source(format="nifti", name="x", digest="5" * 64)
    draft = next(r for r in store.layers() if r.id == "os1.v2")
    writer = LayerDraft(store.objects, draft, store.label_set)
    calls: tuple[Callable[[], object], ...] = (
        lambda: store.scan(case),
        lambda: store.write_scan(case, hu_volume(1), GEOMETRY, source=source, split="training"),
        lambda: layer.entry(case),
        lambda: layer.labels(case),
        lambda: writer.write(case, label_volume(), annotated_classes=CLASSES, seconds={}),
        lambda: writer.carry(case, layer),
        lambda: store.prepared("spacing-4-2-2").read(case),
        lambda: store.prepared(case),
        lambda: store.layer(case),
        lambda: store.model(case),
        lambda: store.model("os1").beside(case),
    )
    for call in calls:
        with pytest.raises(PwssegError):
            call()
    assert tree(Path(store.location).parent) == before


@pytest.mark.parametrize("case", [t for t in TRICKS if "\n" not in t])
def test_no_case_of_a_table_is_a_path(tmp_path: Path, case: str) -> None:
    (tmp_path / "t.json").write_text(json.dumps({case: [1]}))
    with pytest.raises(InputError, match="is no case id"):
        read_annotated(tmp_path / "t.json")


def test_no_data_set_lists_files_from_elsewhere(tmp_path: Path) -> None:
    for name in ("outside", "root/imagesTr"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "outside" / "a.nii.gz").write_bytes(b"x")
    listed = [
        "../outside/a.nii.gz",
        str(tmp_path / "outside" / "a.nii.gz"),
        "imagesTr/../../outside/a.nii.gz",
    ]
    dataset = {"labels": {"0": "background", "1": "liver"}, "modality": {"0": "CT"}, "training": listed}
    (tmp_path / "root" / "dataset.json").write_text(json.dumps(dataset))
    found = find_cases(tmp_path / "root")
    assert not found.cases
    assert len(found.faults) == 3


def test_a_record_that_names_another_case_is_not_believed(store: Store) -> None:
    for case, other in (("case-a", "../../../etc"), ("case-b", "case-c")):
        path = Path(store.location) / "layers" / "os1.v1" / case / "zarr.json"
        said = json.loads(path.read_bytes())
        said["attributes"]["pwsseg"]["record"]["case"] = other
        path.write_bytes(sealed(json.dumps(said).encode()))
        with pytest.raises(StoreError, match=r"can't be read|holds the record of case case-c"):
            store.layer("os1").labels(case)
        assert [f for f in verify(store) if f.case == case and f.layer == "os1.v1"]


def test_an_export_writes_no_file_that_a_manifest_smuggles_in(store: Store, tmp_path: Path) -> None:
    """The manifest is forged, with digests and seals that hold."""
    path = Path(store.location) / "layers" / "os1.v1" / "manifest.parquet"
    table = pq.read_table(path)
    rows = [row | {"case": f"../../{row['case']}"} for row in table.to_pylist()]
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), path)
    for changed, data in restated(path, path.read_bytes()).items():
        changed.write_bytes(data)
    out = tmp_path / "deep" / "er" / "out"
    assert main(["export", "--store", store.location, "--layer", "os1", "--out", str(out)]) == 1
    assert not list(tmp_path.rglob("*.nii.gz"))


# symbolic links

LINKED = (
    *("scans/case-a", "scans/case-a/0", "scans/case-a/0/c", "scans/case-a/zarr.json", "layers/os1.v1"),
    *("layers/os1.v1/case-b", "layers/os1.v1/case-b/0/c/0/0/0", "layers/os1.v1/manifest.parquet"),
    *(
        "layers/os1.v2/case-a",
        "models/os1.v1",
        "models/os1.v1/weights.safetensors",
        "scores/os1.v1--annotation.v1.json",
    ),
    *("prepared/spacing-4-2-2", "prepared/spacing-4-2-2/case-a"),
)
"""Places below a room, where no link is followed."""


def discard_drafts(store: Store) -> None:
    for record in store.layers():
        if record.state.state == "draft":
            LayerDraft(store.objects, record, store.label_set).discard()


@pytest.mark.parametrize("key", LINKED)
def test_no_command_deletes_behind_a_link(store: Store, tmp_path: Path, key: str) -> None:
    link = moved_out(store, key, tmp_path / "outside")
    before = tree(tmp_path / "outside")
    commands: tuple[Callable[[], object], ...] = (
        lambda: repair(store, list(verify(store)), older_than=NOW),
        lambda: retire(store, OS1),
        lambda: collect(store),
        lambda: discard_drafts(store),
    )
    for command in commands:
        with suppress(StoreError):  # some go on with what is left, some refuse: neither may reach the outside
            command()
    assert tree(tmp_path / "outside") == before
    assert link.is_symlink()


@pytest.mark.parametrize("key", LINKED)
def test_a_link_is_named_by_verify(
    store: Store, tmp_path: Path, key: str, capsys: pytest.CaptureFixture[str]
) -> None:
    moved_out(store, key, tmp_path / "outside")
    found = [f for f in verify(store) if f.where == key and "symbolic link" in f.what]
    assert [(f.level, f.loose) for f in found] == [("error", ())]
    assert main(["verify", store.location, "--repair", "--older-than", "0"]) == 1
    assert f"link the whole folder '{key.partition('/')[0]}'" in capsys.readouterr().out


@pytest.mark.parametrize("key", LINKED)
def test_once_the_link_is_undone_the_store_is_whole(store: Store, tmp_path: Path, key: str) -> None:
    """A repair removes nothing that only a link made look lost."""
    link = moved_out(store, key, tmp_path / "outside")
    findings = list(verify(store))
    drafts = [f for f in findings if f.where == "layers/os1.v2"]
    repair(store, [f for f in findings if f not in drafts], older_than=NOW)
    link.unlink()
    shutil.move(tmp_path / "outside" / link.name, link)
    assert [f for f in verify(store) if f.level == "error"] == []
    assert tree(Path(store.location)).keys() >= {
        "scans/case-a/0/c/0/0/0",
        "models/os1.v1/weights.safetensors",
    }


def test_nothing_is_read_behind_a_link(store: Store, tmp_path: Path) -> None:
    reads: dict[str, Callable[[], object]] = {
        "scans/case-a": lambda: store.scan("case-a"),
        "scans/case-b/0/c": lambda: store.scan("case-b").read(),
        "layers/os1.v1/case-b": lambda: store.layer("os1").labels("case-b"),
        "models/os1.v1/weights.safetensors": lambda: store.model("os1").weights_bytes(),
        "layers/annotation.v1/manifest.parquet": lambda: store.layer("annotation").cases(),
    }
    for number, (key, read) in enumerate(reads.items()):
        read()
        moved_out(store, key, tmp_path / f"outside-{number}")
        with pytest.raises(StoreError, match=f"^{key} is a symbolic link"):
            read()
    moved_out(store, "prepared/spacing-4-2-2/case-a", tmp_path / "outside-cache")
    with pytest.raises(StoreError):  # a cache: what can't be read is as if it were not there
        store.prepared("spacing-4-2-2").read("case-a")


def test_nothing_is_written_behind_a_link(store: Store, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (Path(store.location) / "scans" / "case-x").symlink_to(tmp_path / "outside")
    (Path(store.location) / "layers" / "os9.v1").symlink_to(tmp_path / "outside")
    source = Source(format="nifti", name="x", digest="5" * 64)
    with pytest.raises(StoreError, match="symbolic link"):
        store.write_scan("case-x", hu_volume(1), GEOMETRY, source=source, split="training")
    pins = prediction_pins(store.layer("annotation"), store.model("os1")).model_copy(update={"name": "os9"})
    with pytest.raises(StoreError, match="symbolic link"):
        store.draft(pins)
    assert not list((tmp_path / "outside").iterdir())


def test_the_store_and_its_rooms_may_lie_on_other_disks(store: Store, tmp_path: Path) -> None:
    for room in ("scans", "layers", "models", "prepared", "scores"):
        moved_out(store, room, tmp_path / "disk")
    (tmp_path / "by-name").symlink_to(store.location)
    linked = Store.open(tmp_path / "by-name")
    assert np.array_equal(linked.scan("case-a").read(), hu_volume(len("case-a") + ord("a")))
    assert linked.layer("os1").cases() == list(CASES)
    assert not [f for f in verify(linked) if f.level == "error"]
    repair(linked, list(verify(linked)), older_than=NOW)
    retire(linked, OS1)
    assert len(collect(linked).deleted) == 3
    assert not (tmp_path / "disk" / "models" / "os1.v1" / "weights.safetensors").exists()
    assert not [f for f in verify(linked) if f.level == "error"]


def test_a_link_that_appears_while_deleting_is_not_followed(tmp_path: Path) -> None:
    """The folder is checked first; what happens after that is what this is about."""
    (tmp_path / "outside" / "0").mkdir(parents=True)
    (tmp_path / "outside" / "0" / "zarr.json").write_bytes(b"x")
    (tmp_path / "store" / "scans").mkdir(parents=True)
    (tmp_path / "store" / "scans" / "case-a").symlink_to(tmp_path / "outside")
    with pytest.raises(OSError, match=r"Not a directory|Too many levels"):
        remove_file(str(tmp_path / "store"), "scans/case-a/0/zarr.json")
    assert tree(tmp_path / "outside") == {"0/zarr.json": b"x"}


def test_a_link_that_leads_round_in_a_circle_is_told(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    (Path(store.location) / "scans" / "case-a" / "round").symlink_to(store.location)
    assert main(["verify", store.location]) == 1
    assert "scans/case-a/round" in capsys.readouterr().err


# the viewer's server

PAGE = "http://127.0.0.1:41230"
TABLE = Path("/proc/net/tcp")


@pytest.fixture
def url(store: Store) -> Iterator[str]:
    with serving(store.objects, origin=PAGE) as address:
        yield address


def asked(
    url: str, path: str = "zarr.json", method: str = "GET", **headers: str
) -> tuple[int, bytes, dict[str, str]]:
    """The answer to one request, whose headers are exactly those given and a Host."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=30)
    try:
        connection.putrequest(method, f"{parts.path}/{path}", skip_host=True, skip_accept_encoding=True)
        for name, value in {"Host": parts.netloc, **headers}.items():
            if value:
                connection.putheader(name.replace("_", "-"), value)
        connection.endheaders()
        answer = connection.getresponse()
        return answer.status, answer.read(), {k.lower(): v for k, v in answer.headers.items()}
    finally:
        connection.close()


def test_its_page_and_programs_may_read(url: str) -> None:
    assert asked(url)[0] == 200
    status, body, headers = asked(url, Origin=PAGE)
    assert (status, headers["access-control-allow-origin"]) == (200, PAGE)
    assert body
    assert headers["cache-control"] == "no-store"
    assert asked(url, method="OPTIONS", Origin=PAGE, Access_Control_Request_Headers="range")[0] == 204
    port = urlsplit(url).port
    assert asked(url, Host=f"localhost:{port}")[0] == 200


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "null",
        "http://127.0.0.1",
        "http://localhost:41230",
        f"{PAGE}.evil.example",
        "*",
    ],
)
def test_another_page_is_refused(url: str, origin: str, method: str) -> None:
    status, body, headers = asked(url, method=method, Origin=origin)
    assert (status, body) == (403, b"")
    assert "access-control-allow-origin" not in headers


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1:1", "[::1]:{port}", ""]
)
def test_another_name_for_this_machine_is_refused(url: str, host: str) -> None:
    """A page whose name is made to point here (DNS rebinding) has that name as its host, and its origin."""
    status, body, _ = asked(url, Host=host.format(port=urlsplit(url).port))
    assert (status, body) == (403, b"")


def test_without_a_page_no_page_may_read(store: Store) -> None:
    with serving(store.objects) as url:
        assert asked(url)[0] == 200
        assert asked(url, Origin=PAGE)[0] == 403
        assert "access-control-allow-origin" not in asked(url)[2]


@pytest.mark.parametrize("token", ["", "x", "..", "%00", "a" * 5000])
def test_without_the_token_nothing_is_there(url: str, token: str) -> None:
    root = url.rpartition("/")[0]
    assert asked(f"{root}/{token}")[0] == 404


def test_each_server_has_a_token_of_its_own(store: Store) -> None:
    with serving(store.objects) as one, serving(store.objects) as two:
        tokens = {address.rpartition("/")[2] for address in (one, two)}
    assert len(tokens) == 2
    assert all(len(token) >= 22 for token in tokens), "128 bits"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "TRACE"])
def test_nothing_can_be_written(store: Store, url: str, method: str) -> None:
    before = tree(Path(store.location))
    assert asked(url, method=method)[0] == 501
    assert tree(Path(store.location)) == before


@pytest.mark.parametrize(
    "path", ["../secret", "scans/../../secret", "%2e%2e/secret", "/etc/passwd", "scans//x", "a%00b"]
)
def test_no_path_leaves_the_store(store: Store, url: str, path: str) -> None:
    (Path(store.location).parent / "secret").write_bytes(b"x")
    assert asked(url, path)[0] == 404


def test_what_lies_behind_a_link_is_not_served(store: Store, url: str, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"x")
    (Path(store.location) / "scans" / "case-a" / "link").symlink_to(tmp_path / "secret")
    assert asked(url, "scans/case-a/link")[:2] == (500, b"")
    assert asked(url, "scans/case-a/zarr.json")[0] == 200, "the server goes on"


@pytest.mark.parametrize(
    "asked_for", ["bytes=" + "9" * 5000 + "-", "bytes=0-" + "9" * 5000, "bytes=-" + "9" * 5000]
)
def test_a_range_of_thousands_of_digits_is_no_range(url: str, asked_for: str) -> None:
    assert asked(url, Range=asked_for)[0] == 200


def test_it_listens_on_loopback_alone(url: str) -> None:
    port = f":{urlsplit(url).port:04X}"
    rows = [line.split() for line in TABLE.read_text().splitlines()[1:]]
    listening = {row[1] for row in rows if row[1].endswith(port) and row[3] == "0A"}
    assert listening == {f"0100007F{port}"}


def test_the_viewers_own_page_may_read_and_no_other(store: Store) -> None:
    import neuroglancer

    with showing(store, "case-a", layers_of(store, "case-a", ["os1"])) as address:
        (viewer,) = neuroglancer.server.global_server.viewers.values()
        data = viewer.state.layers[0].source[0].url.removesuffix("/scans/case-a/|zarr3:")
        page = "{0.scheme}://{0.netloc}".format(urlsplit(address))
        assert asked(data, Origin=page)[0] == 200
        assert asked(data, Origin="https://evil.example")[0] == 403
        assert asked(page, "")[0] == 404, "neuroglancer's own server answers nothing without its token"
        assert asked(page, "v/" + "0" * 40 + "/")[0] == 404
