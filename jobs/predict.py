"""Label images with a model of the store: NIfTI or DICOM in, NIfTI labels in each scan's own geometry out.

python jobs/predict.py --store demo/store --model ots2 --images scans/ --out labels/
"""

from __future__ import annotations

import argparse
from pathlib import Path

from pwsseg.formats.cases import find_cases
from pwsseg.pipelines.cluster import cluster
from pwsseg.pipelines.job import add_store, run_job, store_location
from pwsseg.pipelines.predict import predict_files
from pwsseg.pipelines.progress import say
from pwsseg.store import Store


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", required=True, help="a model of the store, as ots2 or ots2.v1")
    parser.add_argument("--images", required=True, type=Path, help="folder of NIfTI files or DICOM series")
    parser.add_argument("--out", required=True, type=Path, help="folder for the labels")
    add_store(parser)
    given = parser.parse_args()
    store = Store.open(store_location(given.store))
    model = store.model(given.model)
    found = find_cases(given.images, scans_only=True)
    given.out.mkdir(parents=True, exist_ok=True)
    with cluster() as resources:
        items = predict_files(store, model, found.cases, out=given.out.absolute(), resources=resources)
    faults = dict(found.faults) | {i.case: i.error for i in items if i.error}
    for case, fault in sorted(faults.items()):
        say(f"  refused {case}: {fault}")
    for item in items:
        for note in item.fields.get("notes", ()):
            say(f"  {item.case}: {note}")
    good = sum(not i.error for i in items)
    say(f"{good} of {good + len(faults)} scans labelled by {model.id} into {given.out}")
    return 1 if faults else 0


if __name__ == "__main__":
    run_job(main)
