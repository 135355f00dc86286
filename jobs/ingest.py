"""Put scans and their annotation into a store.

    python jobs/ingest.py --store demo/store --images demo/corpus --annotated demo/corpus/annotated.csv
    python jobs/ingest.py --store S --images imagesTr --labels labelsTr --annotated annotated.csv
    python jobs/ingest.py --store S --images dicom/           # a folder of DICOM series, unlabelled

What is annotated is stated, never guessed: a table (CSV `case,classes` or JSON {case: [ids]}), or
`--annotated present` for the rule "what is present is annotated, nothing else".
"""

from __future__ import annotations

import argparse
from pathlib import Path

from pwsseg.formats.annotated import read_annotated
from pwsseg.formats.flare import find_cases
from pwsseg.pipelines.cluster import cluster
from pwsseg.pipelines.ingest import Annotated, IngestReport, ingest
from pwsseg.pipelines.job import add_store, run_job, store_location
from pwsseg.pipelines.progress import say
from pwsseg.store import Store
from pwsseg.values import SettingsError


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--images", required=True, type=Path, help="FLARE folder, NIfTI folder, or DICOM series"
    )
    parser.add_argument("--labels", type=Path, help="folder of label files NAME.nii.gz")
    parser.add_argument("--annotated", help="table of annotated classes (CSV or JSON), or the word present")
    parser.add_argument(
        "--split",
        default="training",
        choices=("training", "validation"),
        help="validation cases are held out from every training (default: training; imagesVal is validation)",
    )
    parser.add_argument(
        "--any-range", action="store_true", help="accept scans without air, which don't look like CT in HU"
    )
    add_store(parser)
    given = parser.parse_args()
    found = find_cases(given.images, given.labels, split=given.split)
    annotated = _annotated(given.annotated, labelled=any(c.labels for c in found.cases))
    store = Store.create(store_location(given.store))
    with cluster() as resources:
        report = ingest(store, found, annotated=annotated, any_range=given.any_range, resources=resources)
    return _tell(report)


def _annotated(said: str | None, *, labelled: bool) -> Annotated:
    if said == "present":
        return "present"
    if said:
        return read_annotated(Path(said))
    if labelled:
        raise SettingsError(
            "there are label files, but nothing says which classes they annotate (0 may mean background or "
            "unknown); give --annotated TABLE, or --annotated present"
        )
    return {}


def _tell(report: IngestReport) -> int:
    for case, fault in sorted(report.faults.items()):
        say(f"  refused {case}: {fault}")
    layer = f"annotation is {report.annotation.id}" if report.annotation else "nothing is annotated"
    asked = len(report.scans) + len(report.faults)
    say(f"{len(report.scans)} of {asked} scans are in the store; {layer}")
    return 1 if report.faults else 0


if __name__ == "__main__":
    run_job(main)
