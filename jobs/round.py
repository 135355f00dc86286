"""Run a round: fuse what is known, prepare, train, predict, publish a new label layer.

    python jobs/round.py --round os1 --scale laptop --store demo/store
    ray job submit -- python jobs/round.py --round ots2

Run again with the same pins it changes nothing; interrupted, it goes on where it stopped.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from pwsseg.pipelines.cascade import in_boxes
from pwsseg.pipelines.cluster import Resources, cluster
from pwsseg.pipelines.fuse import fuse_targets
from pwsseg.pipelines.job import add_store, run_job, store_location
from pwsseg.pipelines.meter import tensorboard_to
from pwsseg.pipelines.needs import check_needs
from pwsseg.pipelines.predict import predict_layer
from pwsseg.pipelines.prepare import prepare_scans
from pwsseg.pipelines.progress import say
from pwsseg.pipelines.publish import goes_without
from pwsseg.pipelines.representatives import choose_representatives
from pwsseg.pipelines.sources import Sources, pin_sources
from pwsseg.pipelines.train import train_model
from pwsseg.pipelines.unreadable import without_unreadable
from pwsseg.rounds import RoundSettings, load_round, round_names
from pwsseg.store import Layer, Store

JOBS = Path(__file__).resolve().parent


def run_round(
    store: Store,
    settings: RoundSettings,
    sources: Sources,
    resources: Resources,
    *,
    accept_drift: str | None = None,
    allow_missing: bool = False,
) -> Layer:
    """One round of Algorithm 1, from pinned layers to a new published layer."""
    before = {r.id for r in store.layers()}
    if allow_missing:
        sources = without_unreadable(store, settings, sources, resources)
    sources = choose_representatives(store, sources, resources)
    targets = fuse_targets(store, sources, resources, allow_missing=allow_missing)
    sources = in_boxes(store, sources, targets, resources)
    prepare_scans(store, sources, resources)
    model = train_model(store, sources, targets, resources)
    layer = predict_layer(
        store, sources, model, resources, accept_drift=accept_drift, allow_missing=allow_missing
    )
    if layer.id in before:
        there = f"{layer.id} has these pins already (digest {layer.digest[:12]})"
        say(f"{settings.name}: nothing to do, {there}{goes_without(layer)}")
    return layer


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--round", required=True, help="os1, os2, ots1, ots2 or all: a file in rounds/")
    parser.add_argument("--scale", default="flare23", help="a file in scales/ (default: flare23)")
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of initialisation and sampling (default: 0)"
    )
    parser.add_argument(
        "--settings",
        type=Path,
        default=JOBS,
        help="folder of rounds/ and scales/ (default: beside this script)",
    )
    parser.add_argument(
        "--accept-drift",
        metavar="REASON",
        help="publish labels that drifted beyond the round's limits, with this reason in their record",
    )
    parser.add_argument(
        "--allow-missing",
        action="store_true",
        help="publish without the cases that fail; they stand in the layer's record, each with its reason",
    )
    parser.add_argument(
        "--tensorboard", metavar="DIR", type=Path, help="write the training curves for TensorBoard, too"
    )
    add_store(parser)
    given = parser.parse_args()
    if given.tensorboard:
        tensorboard_to(given.tensorboard)
    folder = given.settings
    names = round_names(folder) if given.round == "all" else [given.round]
    rounds = [load_round(name, given.scale, folder=folder, seed=given.seed) for name in names]
    store = Store.open(store_location(given.store))
    first = pin_sources(store, rounds[0])  # before a cluster is started: it may refuse
    with cluster() as resources:
        for settings in rounds:
            check_needs(settings, resources)
            say(f"{settings.name}: {settings.science.about}")
            run_round(
                store,
                settings,
                first if settings is rounds[0] else pin_sources(store, settings),
                resources,
                accept_drift=given.accept_drift,
                allow_missing=given.allow_missing,
            )
    return 0


if __name__ == "__main__":
    run_job(main)
