"""What a round will take, worked out without running it.

plan = plan_round(settings, work, gpus=8, tflops=60.0)

Shapes flow through the networks on torch's meta device (networks/cost.py), so floating-point operations are
exact and memory is what autograd would keep. Hours are those operations at the throughput that is given;
reading, augmenting and writing run beside them, and are not in the figure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from pwsseg.arrays.sliding import stream_bytes
from pwsseg.networks.cost import Cost, cost_of
from pwsseg.networks.supervision import Supervision
from pwsseg.pipelines.labeller import expected_shape, expected_windows, mirror_images
from pwsseg.pipelines.sources import Kind, kind_of, stated_classes
from pwsseg.rounds import ANNOTATION, CaseRoles, RoundSettings
from pwsseg.store import Store
from pwsseg.values import Geometry, SettingsError

GPU_BYTES_A_VALUE = 2
"""On a GPU activations are bfloat16, half of what a CPU without it keeps."""
LABEL_BYTES_A_VOXEL = 0.006
"""Labels of real scans as the store keeps them (docs/store.md), where a store has no layer to go by."""
PREPARED_BYTES_A_VOXEL = 1.3
"""Prepared float16 volumes as the store keeps them."""
FLARE_SCAN = Geometry(
    shape=(100, 512, 512),
    spacing=(2.5, 0.8, 0.8),
    origin=(0.0, 0.0, 0.0),
    direction=(0.0, 0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 0.0),
)
"""A usual scan of the challenge, where no store says what scans there are."""
FLARE_KINDS: dict[Kind, int] = {"full": 250, "partial": 1950, "unlabelled": 1800}
"""FLARE23's training cases by what is annotated in them (METHOD.md, Data)."""
FLARE_HELD_OUT = 100


@dataclass(frozen=True)
class Work:
    """The scans that a round is for."""

    kinds: dict[Kind, Counter[Geometry]]
    """How many training cases of each kind have which geometry."""
    held_out: Counter[Geometry]
    label_bytes_a_voxel: float
    assumed: str
    """What was taken for granted, in words; empty when a store said it all."""


class NetworkPlan(NamedTuple):
    """One network of a round: its training, and one pass over the scans."""

    name: str
    parameters: int
    epochs: int
    steps: int
    patches_a_step: int
    windows: int
    training_flops: float
    prediction_flops: float
    worker_bytes: int
    labelling_bytes: int
    """Of one labelling actor beside its network and its scan: what blending the largest scan takes."""
    training_hours: float
    prediction_hours: float


class Plan(NamedTuple):
    """A round, not run."""

    round: str
    scale: str
    gpus: int
    tflops: float
    training_workers: int
    cases: dict[str, int]
    networks: list[NetworkPlan]
    prepared_bytes: int
    layer_bytes: int
    hours: float
    assumed: str


def work_of(store: Store, settings: RoundSettings) -> Work:
    """The scans of a store, by what is annotated in them.

    Raises
    ------
    StoreError
        When the store has no annotation.
    """
    annotation = store.layer(ANNOTATION)
    least = frozenset(settings.science.labelled_at_least)
    stated = stated_classes(annotation)
    kinds: dict[Kind, Counter[Geometry]] = {"full": Counter(), "partial": Counter(), "unlabelled": Counter()}
    held_out: Counter[Geometry] = Counter()
    voxels = 0
    for scan in store.scan_records():
        if scan.case in stated:
            voxels += scan.geometry.voxels
        if scan.split == "validation":
            held_out[scan.geometry] += 1
        else:
            kinds[kind_of(stated.get(scan.case, frozenset()), least)][scan.geometry] += 1
    return Work(
        kinds=kinds,
        held_out=held_out,
        label_bytes_a_voxel=annotation.state.bytes / voxels,
        assumed="",
    )


def flare_work(scans: int | None = None) -> Work:
    """FLARE23 as the paper had it, where there is no store yet; or so many scans annotated like its 4000."""
    all_kinds = sum(FLARE_KINDS.values())
    times = 1 if scans is None else scans / all_kinds
    size = " x ".join(str(n) for n in FLARE_SCAN.shape)
    return Work(
        kinds={kind: Counter({FLARE_SCAN: round(times * count)}) for kind, count in FLARE_KINDS.items()},
        held_out=Counter({FLARE_SCAN: FLARE_HELD_OUT}),
        label_bytes_a_voxel=LABEL_BYTES_A_VOXEL,
        assumed=f"no store: {'' if scans is None else f'{scans} scans annotated like '}FLARE23's "
        f"{all_kinds}, each {size} voxels of 2.5 x 0.8 x 0.8 mm (z, y, x)",
    )


def plan_round(settings: RoundSettings, work: Work, *, gpus: int, tflops: float) -> Plan:
    """Work out a round at `tflops` (10^12 operations a second that a GPU sustains) on `gpus` GPUs.

    Training takes as many GPUs as the scale has training workers (where it may go on with fewer, those that
    there are), prediction all of them. Scans of a cascade are counted whole, so boxes make it less.

    Raises
    ------
    SettingsError
        When there are fewer GPUs than training workers, or than the scale's least_training_workers.
    """
    most = settings.scale.training_workers
    least, workers = settings.scale.least_training_workers or most, min(gpus, most)
    if gpus < least:
        raise SettingsError(
            f"scale {settings.scale_name} trains on {least} workers with a GPU each, and {gpus} are given; "
            f"give --gpus {least} or more, or lower training_workers or least_training_workers in the scale"
        )
    parts = [part for part in (settings.coarse, settings) if part is not None]
    learnt, labelled = set(_trained(settings.science.cases)), set(settings.science.predicts)
    trained, predicted = _of_kinds(work, learnt), _of_kinds(work, labelled) + work.held_out
    networks = [_network(part, predicted, workers=workers, gpus=gpus, tflops=tflops) for part in parts]
    # in boxes only what is learnt from is prepared: prediction finds its own
    kept = trained if settings.scale.os.coarse else _of_kinds(work, learnt | labelled) + work.held_out
    prepared = sum(PREPARED_BYTES_A_VOXEL * n * _voxels(g, part) for part in parts for g, n in kept.items())
    native = sum(n * g.voxels for g, n in (trained + predicted).items())
    return Plan(
        round=settings.name,
        scale=settings.scale_name,
        gpus=gpus,
        tflops=tflops,
        training_workers=workers,
        cases={str(kind): scans.total() for kind, scans in work.kinds.items()}
        | {"trained": trained.total(), "predicted": predicted.total()},
        networks=networks,
        prepared_bytes=int(prepared),
        layer_bytes=int(native * work.label_bytes_a_voxel),
        hours=sum(n.training_hours + n.prediction_hours for n in networks),
        assumed=work.assumed,
    )


def _of_kinds(work: Work, kinds: set[Kind]) -> Counter[Geometry]:
    return sum((work.kinds[kind] for kind in kinds), Counter())


def _network(
    settings: RoundSettings, predicted: Counter[Geometry], *, workers: int, gpus: int, tflops: float
) -> NetworkPlan:
    stage = settings.stage
    learning = _cost(settings, settings.science.supervision)
    one = _cost(settings, "plain")
    networks = 2 if settings.science.supervision == "cross" and settings.science.predict_with == "mean" else 1
    unlabelled = stage.unlabelled_batch if settings.science.cases.unlabelled == "unlabelled" else 0
    patches = stage.labelled_batch + unlabelled
    steps = settings.epochs * stage.steps_an_epoch
    prediction_settings, channels = settings.prediction, 1 + len(settings.science.classes)
    passes = networks * (1 + len(mirror_images(prediction_settings.mirrored)))
    windows = labelling_bytes = 0
    for geometry, count in predicted.items():
        looks = expected_windows(geometry, prediction_settings)
        windows += count * len(looks)
        labelling_bytes = max(labelling_bytes, stream_bytes(looks, channels=channels))
    training = float(steps * patches * learning.training_flops)
    prediction = float(windows * passes * one.flops)
    a_second = tflops * 1e12
    return NetworkPlan(
        name=settings.name,
        parameters=learning.parameters,
        epochs=settings.epochs,
        steps=steps,
        patches_a_step=patches,
        windows=windows,
        training_flops=training,
        prediction_flops=prediction,
        worker_bytes=learning.training_state_bytes
        + -(-patches // workers) * learning.kept_bytes * GPU_BYTES_A_VALUE // 4,
        labelling_bytes=labelling_bytes,
        training_hours=training / (workers * a_second) / 3600,
        prediction_hours=prediction / (gpus * a_second) / 3600,
    )


def _cost(settings: RoundSettings, supervision: Supervision) -> Cost:
    return cost_of(
        settings.network,
        channels=len(settings.channels),
        patch=settings.stage.patch,
        supervision=supervision,
    )


def _trained(roles: CaseRoles) -> Iterator[Kind]:
    """The kinds of case that a round learns from, with or without labels."""
    yield "full"
    if roles.partial != "dropped":
        yield "partial"
    if roles.unlabelled != "dropped":
        yield "unlabelled"


def _voxels(geometry: Geometry, settings: RoundSettings) -> int:
    z, y, x = expected_shape(geometry, settings.prediction)
    return z * y * x
