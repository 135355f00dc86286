"""Label images with a trained model: NIfTI or DICOM in, NIfTI labels in each scan's own geometry out.

python jobs/predict.py --store demo/store --model ots2 --images scans/ --out labels/
python jobs/predict.py --model demo/store/models/ots2.v1 --images scans/ --out labels/

The second needs no store: a copy of the model's folder (model.json, weights.safetensors) does, and beside it
that of its coarse network, such as os2-coarse.v1, where it has one. NAME.nii.gz or NAME_0000.nii.gz or a
folder NAME of DICOM slices becomes NAME.nii.gz.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from pwsseg.formats.cases import find_cases
from pwsseg.pipelines.cluster import cluster
from pwsseg.pipelines.job import add_store, run_job, store_location
from pwsseg.pipelines.models import is_path, model_in_folder
from pwsseg.pipelines.predict import predict_files
from pwsseg.pipelines.progress import say
from pwsseg.store import Model, Store


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--model", required=True, help="a model of the store, as ots2 or ots2.v1, or the folder of one"
    )
    parser.add_argument("--images", required=True, type=Path, help="folder of NIfTI files or DICOM series")
    parser.add_argument("--out", required=True, type=Path, help="folder for the labels")
    add_store(parser)
    given = parser.parse_args()
    model = model_in_folder(Path(given.model)) if is_path(given.model) else _stored(given)
    found = find_cases(given.images, scans_only=True)
    given.out.mkdir(parents=True, exist_ok=True)
    with cluster() as resources:
        items = predict_files(model, found.cases, out=given.out.absolute(), resources=resources)
    faults = dict(found.faults) | {i.case: i.error for i in items if i.error}
    for case, fault in sorted(faults.items()):
        say(f"  refused {case}: {fault}")
    for item in items:
        for note in item.fields.get("notes", ()):
            say(f"  {item.case}: {note}")
    good = sum(not i.error for i in items)
    say(f"{good} of {good + len(faults)} scans labelled by {model.id} into {given.out}")
    return 1 if faults else 0


def _stored(given: argparse.Namespace) -> Model:
    return Store.open(store_location(given.store)).model(given.model)


if __name__ == "__main__":
    run_job(main)
