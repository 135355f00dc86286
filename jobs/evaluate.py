"""Score a layer against an annotation by the FLARE23 organisers' rules; held-out scores stay in the store.

python jobs/evaluate.py --store demo/store --layer ots2
python jobs/evaluate.py --store demo/store --layer os1 os2 ots1 ots2 --against annotation
"""

from __future__ import annotations

import argparse

from pwsseg.pipelines.cluster import cluster
from pwsseg.pipelines.evaluate import evaluate_layer
from pwsseg.pipelines.job import add_store, run_job, store_location
from pwsseg.pipelines.progress import say
from pwsseg.report.tables import rounds_table
from pwsseg.store import Store


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--layer", required=True, nargs="+", help="layers to score, as ots2 or ots2.v1")
    parser.add_argument("--against", default="annotation", help="the reference layer (default: annotation)")
    parser.add_argument(
        "--split",
        default="validation",
        choices=("validation", "training"),
        help="default: validation; scores of training cases are shown and not kept",
    )
    add_store(parser)
    given = parser.parse_args()
    store = Store.open(store_location(given.store))
    reference = store.layer(given.against)
    layers = [store.layer(name) for name in given.layer]
    with cluster() as resources:
        scores = {
            layer.id: evaluate_layer(store, layer, reference, split=given.split, resources=resources)
            for layer in layers
        }
    say(f"\nAgainst {reference.id}, {given.split} cases:")
    say(rounds_table(scores))
    return 0


if __name__ == "__main__":
    run_job(main)
