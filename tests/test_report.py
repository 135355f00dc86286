"""The report on a small real store: what it says, what it never needs, how pictures lie."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import save_file

from pwsseg.arrays.metrics import score_case
from pwsseg.arrays.stability import disagreement
from pwsseg.report import overlay_png, rounds_table, write_report
from pwsseg.report.changes import difference, volume_change
from pwsseg.report.graph import Node, layer_graph
from pwsseg.report.overlays import fullest_slice, orient, overlay_image
from pwsseg.report.quality import volume_outliers
from pwsseg.store import AnnotationPins, FusionPins, Layer, Model, ModelPins, PredictionPins, Source, Store
from pwsseg.values import FLARE23, Geometry, InputError, StoreError

SHAPE = (6, 20, 24)
LPS = (0.0, 0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 0.0)
GEOMETRY = Geometry(shape=SHAPE, spacing=(5.0, 2.0, 1.0), origin=(0.0, 0.0, 0.0), direction=LPS)
CLASSES = (1, 3, 14)
CASES = ("case-a", "case-b", "case-c")
Labels = NDArray[np.uint8]


def truth() -> Labels:
    labels = np.zeros(SHAPE, np.uint8)
    labels[1:5, 4:16, 2:10] = 1
    labels[2:5, 6:12, 15:21] = 3
    labels[3, 8:12, 4:8] = 14
    return labels


def moved(by: int, classes: tuple[int, ...]) -> Labels:
    labels = np.roll(truth(), by, axis=1)
    return np.where(np.isin(labels, classes), labels, 0).astype(np.uint8)


def publish(store: Store, pins: AnnotationPins | PredictionPins, labels: Labels) -> Layer:
    draft = store.draft(pins)
    for case in CASES:
        draft.write(case, labels, annotated_classes=pins.classes, seconds={})
    return draft.publish(CASES)


def trained(store: Store, name: str, target: Layer, folder: Path) -> Model:
    save_file({"w": np.zeros(2, np.float32)}, folder / "w.safetensors")
    pins = ModelPins(name=name, targets=(target.pin,), starts_from=None, settings={}, cases=CASES, code="0")
    curve = [
        {"epoch": float(i), "rate": 0.01, "loss": 1 / (i + 1), "supervised": 0.5 / (i + 1)} for i in range(5)
    ]
    return store.write_model(
        pins,
        folder / "w.safetensors",
        curve,
        network={},
        classes=(0, *CLASSES),
        activation="softmax",
        preprocessing={},
    )


def write_round(
    store: Store, name: str, by: int, *, source: Layer, folder: Path, classes: tuple[int, ...]
) -> Layer:
    model = trained(store, name, source, folder)
    pins = PredictionPins(
        name=name,
        kind="prediction",
        classes=classes,
        parents=(source.pin,),
        model=model.pin,
        settings={},
        rules=(),
        code="0",
    )
    layer = publish(store, pins, moved(by, classes))
    rows = [
        {"case": case, "class": label, "dsc": score.dsc, "nsd": score.nsd}
        for case in store.cases(split="validation")
        for label, score in score_case(
            layer.labels(case), truth(), spacing=GEOMETRY.spacing, classes=classes
        ).items()
    ]
    store.write_scores(layer.id, "annotation.v1", rows)
    return layer


def empty_store(folder: Path) -> Store:
    store = Store.create(folder)
    hu = np.random.default_rng(0).integers(-200, 300, SHAPE).astype(np.int16)
    for case in CASES:
        split = "training" if case == "case-c" else "validation"
        source = Source(format="nifti", name=f"{case}.nii.gz", digest="0" * 64)
        store.write_scan(case, hu, GEOMETRY, source=source, split=split)  # type: ignore[arg-type]
    return store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder = tmp_path_factory.mktemp("report")
    store = empty_store(folder / "store")
    pins = AnnotationPins(
        name="annotation",
        kind="annotation",
        classes=CLASSES,
        parents=(),
        model=None,
        settings={},
        rules=(),
        code="0",
    )
    annotation = publish(store, pins, truth())
    first = write_round(store, "os1", 4, source=annotation, folder=folder, classes=(1, 3))
    write_round(store, "ots1", 1, source=first, folder=folder, classes=CLASSES)
    return store


@pytest.fixture(scope="module")
def html(store: Store, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = write_report(store, tmp_path_factory.mktemp("out") / "new" / "report.html")
    return path.read_text(encoding="utf-8")


class Page(HTMLParser):
    """Collects what a browser would fetch, which ids there are, and what is left open."""

    VOID = frozenset({"meta", "link", "img", "br"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.ids: list[str] = []
        self.anchors: list[str] = []
        self.open: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._note(attrs)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def _note(self, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            if name in {"src", "href", "xlink:href", "srcset"}:
                (self.anchors if (value or "").startswith("#") else self.fetched).append(value or "")


def test_page_needs_no_network(html: str) -> None:
    page = Page(html)
    assert page.fetched
    assert all(address.startswith("data:image/png;base64,") for address in page.fetched)
    assert "url(http" not in html
    assert "@import" not in html
    assert "<script" not in html


def test_every_element_is_closed_and_every_id_is_its_own(html: str) -> None:
    page = Page(html)
    assert not page.open
    assert len(page.ids) == len(set(page.ids))
    assert {a[1:] for a in page.anchors} <= set(page.ids)


def test_page_reads_on_a_phone_and_in_the_dark(html: str) -> None:
    assert 'name="viewport"' in html
    assert "prefers-color-scheme: dark" in html
    assert html.count('class="scroll"') == len(re.findall(r"<table|<svg class=\"graph\"", html))


def test_page_names_every_layer_round_and_class(html: str) -> None:
    for text in ("annotation.v1", "os1.v1", "ots1.v1", "liver", "spleen", "tumor", "case-a", "supervised"):
        assert f">{text}" in html or f"{text}<" in html, text


def test_page_shows_the_scores_of_the_store(html: str, store: Store) -> None:
    rows = store.scores("ots1.v1", "annotation.v1")
    assert rows
    liver = np.mean([row["dsc"] for row in rows if row["class"] == 1])
    assert f'<td class="best">{100 * liver:.1f}' in html or f"{100 * liver:.1f} <small>" in html


def test_same_store_gives_the_same_page(html: str, store: Store, tmp_path: Path) -> None:
    assert write_report(store, tmp_path / "again.html").read_text(encoding="utf-8") == html
    assert [p.name for p in tmp_path.iterdir()] == ["again.html"]


def test_names_are_escaped(tmp_path: Path) -> None:
    store = empty_store(tmp_path / "a <b> & c")
    text = write_report(store, tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<b>" not in text
    assert "a &lt;b&gt; &amp; c" in text


def test_a_store_without_layers_says_so(tmp_path: Path) -> None:
    text = write_report(empty_store(tmp_path / "store"), tmp_path / "r.html").read_text(encoding="utf-8")
    assert "Nothing is published here yet" in text


def test_unevaluated_rounds_are_drawn_without_scores(tmp_path: Path) -> None:
    store = empty_store(tmp_path / "store")
    publish(store, pins_of("os1"), truth())
    text = write_report(store, tmp_path / "r.html").read_text(encoding="utf-8")
    assert "How the labels evolve" in text
    assert "Scores per class" not in text


def decoded(path: Path) -> NDArray[np.float32]:
    image: NDArray[np.float32] = matplotlib.image.imread(path)
    return image[..., :3]


def test_overlay_has_square_pixels(store: Store, tmp_path: Path) -> None:
    image = decoded(overlay_png(store, "case-a", "annotation", tmp_path / "a.png", width=240))
    assert image.shape[:2] == (400, 240)  # 20 rows of 2 mm, 24 columns of 1 mm


def test_overlay_shows_the_class_in_its_color(store: Store, tmp_path: Path) -> None:
    path = overlay_png(store, "case-a", "annotation", tmp_path / "a.png", width=240)
    pixels = (decoded(path) * 255).round().astype(int)
    tumor = np.array(list(bytes.fromhex(FLARE23[14].color[1:])))
    assert (pixels == tumor).all(axis=-1).any()  # its outline is opaque


def test_overlay_of_an_absent_layer_is_refused(store: Store, tmp_path: Path) -> None:
    with pytest.raises(StoreError):
        overlay_png(store, "case-a", "os9", tmp_path / "a.png")


def directions() -> Iterator[tuple[float, ...]]:
    for axes in ((0, 1, 2), (2, 1, 0), (1, 2, 0), (2, 0, 1)):
        for signs in ((1, 1, 1), (-1, 1, -1), (1, -1, -1), (-1, -1, -1)):
            matrix = np.zeros((3, 3))
            for world, (axis, sign) in enumerate(zip(axes, signs, strict=True)):
                matrix[world, axis] = sign
            yield tuple(matrix.ravel().tolist())


@pytest.mark.parametrize("direction", list(directions()))
def test_any_grid_is_shown_with_right_on_the_left_and_anterior_up(direction: tuple[float, ...]) -> None:
    geometry = Geometry.model_validate(
        {"shape": (4, 5, 6), "spacing": (1.0, 2.0, 3.0), "origin": (0, 0, 0), "direction": direction}
    )
    steps = geometry.direction_matrix * np.asarray(geometry.spacing)
    indices = np.stack(np.meshgrid(*[np.arange(n) for n in geometry.shape], indexing="ij"))
    world = np.einsum("wa,azyx->wzyx", steps, indices)  # x, y, z of every voxel
    for axis, coordinate in zip((2, 1, 0), world, strict=True):
        shown = orient(coordinate, geometry)
        step = np.diff(shown.array, axis=axis)
        assert np.allclose(step, shown.spacing[axis])  # left, posterior, superior: upward, in its own spacing


def test_oblique_grids_go_to_the_nearest_axes() -> None:
    tilt = np.deg2rad(20)
    turned = np.array(
        [[0, 0, 1], [np.sin(tilt), np.cos(tilt), 0], [np.cos(tilt), -np.sin(tilt), 0]], dtype=float
    )
    geometry = Geometry.model_validate(
        {
            "shape": (2, 3, 4),
            "spacing": (1.0, 1.0, 1.0),
            "origin": (0, 0, 0),
            "direction": tuple(turned.ravel()),
        }
    )
    array = np.arange(24).reshape(2, 3, 4)
    assert (orient(array, geometry).array == array).all()


def test_the_fullest_slice_has_most_classes() -> None:
    assert fullest_slice(truth()) == 3


def test_overlay_of_a_slice_can_be_chosen() -> None:
    hu = np.zeros(SHAPE, np.int16)
    bare = overlay_image(hu, truth(), geometry=GEOMETRY, index=0)
    assert (bare == bare[0, 0]).all()  # nothing is labelled there


def test_changes_are_in_millilitres(html: str) -> None:
    rows = 2 * 3 * 3 * 6  # the spleen moved back by three rows of 3 slices x 6 voxels, at both of its faces
    gained = len(CASES) * rows / 2 * GEOMETRY.voxel_ml
    assert f'<td class="group">+{gained:.1f}</td><td>\N{MINUS SIGN}{gained:.1f}</td>' in html


def test_a_folder_is_no_place_for_the_report(store: Store, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a folder"):
        write_report(store, tmp_path)
    assert not list(tmp_path.iterdir())


def test_table_marks_the_best_and_leaves_out_what_was_not_scored() -> None:
    def rows(dsc: float, classes: tuple[int, ...]) -> list[dict[str, object]]:
        return [{"case": "a", "class": c, "dsc": dsc, "nsd": dsc / 2} for c in classes]

    table = rounds_table({"os1.v1": rows(0.5, (1, 2)), "ots2.v1": rows(0.75, (1, 2, 14))})
    head, rule, first, second = table.splitlines()
    assert head.split()[0] == "round"
    assert set(rule) == {"-", " "}
    assert first.split() == ["os1.v1", "1", "50.0", "25.0", "-", "-", "-", "-", "liver", "50.0"]
    assert second.split()[2:4] == ["75.0*", "37.5*"]
    assert head.index("worst") == first.index("liver") == second.index("liver")


def test_table_of_no_round_is_its_head() -> None:
    assert len(rounds_table({}).splitlines()) == 2


def test_graph_draws_each_layer_and_each_source_once() -> None:
    nodes = [
        Node("annotation.v1", "annotation", 9, ()),
        Node("os1.v1", "prediction", 9, ("annotation.v1",), ("annotation.v1",)),
        Node("os2-targets.v1", "fusion", 1, ("annotation.v1", "os1.v1")),
        Node("os2.v1", "prediction", 9, ("gone.v1",), ("os2-targets.v1",)),
    ]
    svg = layer_graph(nodes)
    assert svg.count("<rect") == 4
    assert svg.count('class="edge"') == 3
    assert svg.count('class="edge learned"') == 1
    assert ">1 case<" in svg
    places = [tuple(map(int, m)) for m in re.findall(r'<rect x="(\d+)" y="(\d+)"', svg)]
    assert len(set(places)) == 4


def test_pictures_are_pngs(html: str) -> None:
    uris = re.findall(r'data:image/png;base64,([^"]+)"', html)
    images = [matplotlib.image.imread(io.BytesIO(base64.b64decode(u))) for u in uris]
    # two validation cases: one CT, a reference and two rounds each; the CT is stored once a case
    # three changed cases: one CT, before, after and their difference
    assert len(images) == 2 * 4 + 3 * 4


def luminance(color: str) -> float:
    """Relative luminance of #rrggbb (WCAG 2.2)."""
    parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_text_stands_out_from_its_ground(html: str, scheme: int) -> None:
    blocks = re.findall(r":root \{(.*?)\}", html, flags=re.DOTALL)
    colors = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6})", blocks[scheme]))
    for ground in ("page", "card"):
        for text in ("ink", "quiet", "good", "bad"):
            light, dark = sorted((luminance(colors[text]), luminance(colors[ground])), reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= 4.5, f"--{text} on --{ground}"


def test_pictures_and_tables_are_reached_by_keyboard(html: str) -> None:
    assert html.count('<figure tabindex="0">') == html.count('<image class="labels"')
    regions = re.findall(r'<[^>]*role="region"[^>]*>', html)
    assert regions
    assert all('tabindex="0"' in region and 'aria-label="' in region for region in regions)


def test_changed_voxels_are_gained_lost_or_another_class() -> None:
    before, after = np.array([0, 0, 1, 1, 2], np.uint8), np.array([0, 1, 0, 2, 2], np.uint8)
    assert difference(before, after).tolist() == [0, 1, 2, 3, 0]


def test_cases_that_changed_most_are_shown_with_their_share(html: str) -> None:
    assert html.count("os1.v1 → ots1.v1</figcaption>") == 3
    assert html.count("volumes 0 % changed") == 3  # shapes that move keep their volume


def test_volume_change_is_a_share_of_what_is_there_after() -> None:
    before, after = {"voxels_1": 60, "voxels_2": None}, {"voxels_1": 80, "voxels_2": 20}
    assert volume_change(before, after, (1, 2)) == pytest.approx(0.4)
    assert volume_change(after, {"voxels_1": 0, "voxels_2": 0}, (1, 2)) == 100  # nothing left: no share


def test_page_says_how_cases_are_annotated(html: str) -> None:
    assert '<th scope="row">2 organs, tumor</th><td class="number">3</td>' in html


def test_twin_scans_and_short_ones_stand_out(html: str) -> None:
    assert '<th scope="row">the same voxels as another case</th><td class="number">3</td>' in html
    assert '<th scope="row">fewer than 20 slices along an axis</th><td class="number">3</td>' in html


def test_a_volume_far_from_the_usual_is_an_outlier() -> None:
    rows = [
        {"case": str(i), "voxels_1": n, "voxel_ml": 0.001} for i, n in enumerate([*range(95, 105), 900, 0])
    ]
    assert list(volume_outliers(rows, 1)) == ["10"]
    assert volume_outliers(rows[-8:], 1) == {}  # seven cases say nothing about what is usual


def test_efficiency_is_in_seconds_beside_the_papers(html: str) -> None:
    assert "<td>100.17</td><td>4,128</td><td>339,753</td>" in html


def test_left_out_cases_are_named_with_their_instability(tmp_path: Path) -> None:
    store = empty_store(tmp_path / "store")
    layers = [
        publish(store, pins_of(name), moved(by, CLASSES))
        for name, by in (("os1", 4), ("os2", 2), ("ots1", 1))
    ]
    fused = FusionPins.model_validate(
        {
            "name": "ots2-targets",
            "kind": "fusion",
            "classes": CLASSES,
            "model": None,
            "settings": {},
            "code": "0",
        }
        | {"parents": tuple(layer.pin for layer in layers), "rules": ("select:stability:0.5",)}
    )
    draft = store.draft(fused)
    for case in CASES[:2]:
        draft.write(case, truth(), annotated_classes=CLASSES, seconds={})
    draft.publish(CASES[:2])
    text = write_report(store, tmp_path / "r.html").read_text(encoding="utf-8")
    u = disagreement(*(moved(by, (1, 3)) for by in (4, 2, 1)), organs=FLARE23.organs)
    assert f'<th scope="row">case-c</th><td>{u:.3f}</td>' in text


def pins_of(name: str) -> PredictionPins:
    return PredictionPins.model_validate(
        {"name": name, "kind": "prediction", "classes": CLASSES, "parents": (), "settings": {}, "rules": ()}
        | {"model": {"id": f"{name}.v1", "digest": "0" * 64}, "code": "0"}
    )
