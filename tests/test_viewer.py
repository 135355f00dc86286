"""The viewer gets the store's own objects, on loopback, behind a token, and is told colours and names."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.error import HTTPError

import numpy as np
import pytest
import zarr
from filled_store import filled_store
from obstore.store import HTTPStore
from zarr.storage import ObjectStore

from pwsseg.cli import main
from pwsseg.report.serving import serving
from pwsseg.report.viewer import difference, layers_of, names_info, showing, viewer_state
from pwsseg.store import Store
from pwsseg.values import FLARE23, StoreError

PAGE = "http://127.0.0.1:9999"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return filled_store(tmp_path_factory.mktemp("viewer"))


@pytest.fixture(scope="module")
def url(store: Store) -> Iterator[str]:
    with serving(store.objects, {"names/info": names_info()}, origin=PAGE) as address:
        yield address


def get(url: str, **headers: str) -> tuple[int, bytes, dict[str, str]]:
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers)) as answer:
        return answer.status, answer.read(), dict(answer.headers)


def test_zarr_reads_scan_and_labels_through_it(store: Store, url: str) -> None:
    for path, wanted in (
        ("scans/case-a", store.scan("case-a").read()),
        ("layers/os1.v1/case-a", store.layer("os1").labels("case-a")),
    ):
        reader = ObjectStore(HTTPStore.from_url(f"{url}/{path}/0", client_options={"allow_http": True}))
        array = zarr.open_array(reader, mode="r", zarr_format=3)
        assert np.array_equal(np.asarray(array[...]), wanted)


def test_ranges_are_those_of_http(store: Store, url: str) -> None:
    key = "scans/case-a/0/c/0/0/0"
    whole = store.objects.read(key)
    assert whole is not None
    assert get(f"{url}/{key}")[:2] == (200, whole)
    for asked, part in (("bytes=3-9", whole[3:10]), ("bytes=-7", whole[-7:]), ("bytes=5-", whole[5:])):
        status, body, headers = get(f"{url}/{key}", Range=asked)
        assert (status, body) == (206, part)
        assert headers["Content-Range"].endswith(f"/{len(whole)}")
        assert headers["Access-Control-Allow-Origin"] == PAGE


@pytest.mark.parametrize("path", ["scans/case-z/zarr.json", "../secrets", "scans/../../secrets"])
def test_what_is_not_there_is_not_found(url: str, path: str) -> None:
    with pytest.raises(HTTPError) as error:
        get(f"{url}/{path}")
    assert error.value.code == 404


def test_without_the_token_nothing_is_there(url: str) -> None:
    host, _, token = url.rpartition("/")
    assert host.startswith("http://127.0.0.1:")
    for other in (f"{host}/zarr.json", f"{host}/{token[:-1]}/zarr.json", f"{host}/{token}x/zarr.json"):
        with pytest.raises(HTTPError) as error:
            get(other)
        assert error.value.code == 404
    assert get(f"{url}/zarr.json")[0] == 200


def test_state_names_sources_window_colours_and_classes(store: Store, url: str) -> None:
    layers = layers_of(store, "case-a", ["annotation", "os1"])
    ct, first, last = viewer_state(store, "case-a", layers, url)["layers"]
    assert ct["shaderControls"]["normalized"]["range"] == [-160, 240]
    assert [first["name"], last["name"]] == ["annotation.v1", "os1.v1"]
    assert [first["visible"], last["visible"]] == [False, True]
    assert last["segments"] == [str(i) for i in layers[1].entry("case-a").annotated_classes]
    assert last["segmentColors"]["14"] == FLARE23[14].color
    for layer in (ct, first, last):
        source = layer["source"] if isinstance(layer["source"], str) else layer["source"][0]
        assert get(source.removesuffix("|zarr3:") + "zarr.json")[0] == 200
    said = json.loads(get(f"{url}/names/info")[1])
    assert said["inline"]["properties"][0]["values"][13] == "tumor"


def test_all_layers_with_the_case_are_shown_when_none_is_named(store: Store) -> None:
    assert [layer.id for layer in layers_of(store, "case-a", [])] == ["annotation.v1", "os1.v1"]
    with pytest.raises(StoreError, match="case-z"):
        layers_of(store, "case-z", [])


def test_difference_is_where_two_layers_disagree() -> None:
    first, second = np.array([[[0, 1, 14]]], np.uint8), np.array([[[0, 2, 14]]], np.uint8)
    assert difference(first, second).tolist() == [[[0, 1, 0]]]


def test_client_is_served_with_a_token_and_holds_the_difference(store: Store) -> None:
    with showing(store, "case-a", layers_of(store, "case-a", ["annotation", "os1"])) as address:
        status, page, _ = get(address)
    assert address.startswith("http://127.0.0.1:")
    assert len(address.rstrip("/").rpartition("/")[2]) >= 32
    assert status == 200
    assert b"neuroglancer" in page


def test_command_serves_until_it_is_interrupted(store: Store) -> None:
    command = [
        sys.executable,
        "-m",
        "pwsseg.cli",
        "view",
        "case-a",
        "--store",
        store.location,
        "--no-browser",
    ]
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # tests in the background ignore it
    try:
        viewer = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=dict(os.environ))
    finally:
        signal.signal(signal.SIGINT, before)
    with viewer:
        try:
            assert viewer.stdout is not None
            address = viewer.stdout.readline().strip()
            assert get(address)[0] == 200
            viewer.send_signal(signal.SIGINT)
            assert viewer.wait(30) == 0
        finally:
            viewer.kill()


def test_napari_gets_folders_or_a_sentence(
    store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    said = ["view", "case-a", "--store", store.location, "--layers", "os1", "--napari"]
    assert main(said) == 1
    assert "napari is not installed" in capsys.readouterr().err
    napari = tmp_path / "napari"
    napari.write_text('#!/bin/sh\nprintf "%s\\n" "$@" > "$(/usr/bin/dirname "$0")/given"\n')
    napari.chmod(0o755)
    assert main(said) == 0
    given = (tmp_path / "given").read_text().split()
    assert given[-2:] == [f"{store.location}/{p}" for p in ("scans/case-a", "layers/os1.v1/case-a")]
