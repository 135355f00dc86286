"""Put scans and their annotation into a store, or labels that people corrected.

    python jobs/ingest.py --store demo/store --images demo/corpus --annotated demo/corpus/annotated.csv
    python jobs/ingest.py --store S --images imagesTr --labels labelsTr --annotated annotated.csv
    python jobs/ingest.py --store S --images Task03_Liver --annotated dataset    # nnU-Net raw data, too
    python jobs/ingest.py --store S --images dicom/           # a folder of DICOM series, unlabelled
    python jobs/ingest.py --store S --fix case1.nii.gz --classes liver,tumor --note "JD: cyst, no tumor"

What is annotated is stated, never guessed: a table (CSV `case,classes` or JSON {case: [ids]}),
`--annotated present` for the rule "what is present is annotated, nothing else", or `--annotated dataset` for
"all labels of dataset.json are annotated in each labelled case".
"""

from __future__ import annotations

import argparse
from pathlib import Path

from pwsseg.formats.annotated import read_annotated
from pwsseg.formats.cases import find_cases
from pwsseg.formats.edited import find_edited
from pwsseg.formats.found import Found
from pwsseg.formats.names import parse_classes, parse_meanings
from pwsseg.pipelines.cluster import cluster
from pwsseg.pipelines.fixes import Fix, FixReport, fix
from pwsseg.pipelines.ingest import Annotated, IngestReport, ingest
from pwsseg.pipelines.job import add_store, run_job, store_location
from pwsseg.pipelines.progress import say
from pwsseg.store import Store
from pwsseg.values import SettingsError

ONLY_WITH = {
    "images": ("labels", "map", "split", "any_range"),
    "fix": ("classes", "case", "note", "origin"),
}
"""Options that make sense beside one of the two ways in, and none beside the other."""


def main() -> int:
    given = _parser().parse_args()
    _check_options(given)
    if given.fix:
        return _tell_fix(_fix(given))
    meanings = parse_meanings(given.map) if given.map else {}
    found = find_cases(given.images, given.labels, split=given.split or "training", meanings=meanings)
    annotated = _annotated(given.annotated, found)
    store = Store.create(store_location(given.store))
    with cluster() as resources:
        report = ingest(
            store, found, annotated=annotated, any_range=bool(given.any_range), resources=resources
        )
    return _tell(report)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    way_in = parser.add_mutually_exclusive_group(required=True)
    way_in.add_argument(
        "--images", type=Path, help="root of FLARE, nnU-Net or MSD data, NIfTI folder, or DICOM series"
    )
    way_in.add_argument(
        "--fix",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="edited label files CASE.nii.gz, or folders of them",
    )
    parser.add_argument("--labels", type=Path, help="folder of label files NAME.nii.gz")
    parser.add_argument(
        "--annotated", help="table of annotated classes (CSV or JSON), or the word present or dataset"
    )
    parser.add_argument(
        "--map",
        metavar="OLD=NEW,...",
        help="labels of another data set, by name or value; 0 for none of ours",
    )
    parser.add_argument(
        "--split",
        choices=("training", "validation"),
        help="validation cases are held out from every training (default: training; imagesVal is validation)",
    )
    parser.add_argument(
        "--any-range",
        action="store_const",
        const=True,
        help="accept scans without air, which don't look like CT in HU",
    )
    parser.add_argument("--classes", metavar="1,14", help="the classes that every file of --fix restates")
    parser.add_argument("--case", help="the case of a single file of --fix that isn't named after it")
    parser.add_argument("--note", default=None, help="who corrected it and why; kept with each case of --fix")
    parser.add_argument(
        "--from", dest="origin", metavar="LAYER", help="the layer that --fix was exported from; kept, too"
    )
    add_store(parser)
    return parser


def _check_options(given: argparse.Namespace) -> None:
    way, other = ("fix", "images") if given.fix else ("images", "fix")
    for option in ONLY_WITH[other]:
        if getattr(given, option) is not None:
            said = {"origin": "from"}.get(option, option.replace("_", "-"))
            raise SettingsError(f"--{said} goes with --{other}, and --{way} was given; leave one of them out")


def _annotated(said: str | None, found: Found) -> Annotated:
    if said == "present":
        return "present"
    labelled = [c.case for c in found.cases if c.labels]
    if said == "dataset":
        if found.stated is None:
            raise SettingsError(
                "--annotated dataset needs a dataset.json beside imagesTr that says what is labelled; give a "
                "table, or --annotated present"
            )
        return dict.fromkeys(labelled, found.stated)
    if said:
        return read_annotated(Path(said))
    if labelled:
        hint = ", or --annotated dataset" if found.stated else ", or --annotated present"
        raise SettingsError(
            "there are label files, but nothing says which classes they annotate (0 may mean background or "
            f"unknown); give --annotated TABLE{hint}"
        )
    return {}


def _fix(given: argparse.Namespace) -> FixReport:
    if (given.classes is None) == (given.annotated is None):
        raise SettingsError(
            "a fix restates some classes of a case, and those have to be stated once; give --classes 1,14 "
            "for all files, or --annotated TABLE with a row a case"
        )
    files, faults = find_edited(given.fix, given.case)
    stated = read_annotated(Path(given.annotated)) if given.annotated else {}
    for_all = parse_classes(given.classes) if given.classes else frozenset()
    store = Store.open(store_location(given.store))
    report = fix(
        store,
        [Fix(case, path, stated.get(case, for_all)) for case, path in files.items()],
        note=given.note or "",
        origin=store.layer(given.origin) if given.origin else None,
    )
    return FixReport(report.annotation, report.changed, report.unchanged, report.faults | dict(faults))


def _tell(report: IngestReport) -> int:
    _tell_faults(report.faults)
    layer = f"annotation is {report.annotation.id}" if report.annotation else "nothing is annotated"
    asked = len(report.scans) + len(report.faults)
    say(f"{len(report.scans)} of {asked} scans are in the store; {layer}")
    return 1 if report.faults else 0


def _tell_fix(report: FixReport) -> int:
    for case, lines in sorted(report.changed.items()):
        for line in lines:
            say(f"  {case}: {line}")
    for case in sorted(report.unchanged):
        say(f"  {case}: nothing to fix, it is annotated so already")
    _tell_faults(report.faults)
    asked = len(report.changed) + len(report.unchanged) + len(report.faults)
    layer = f"annotation is {report.annotation.id}" if report.annotation else "nothing is annotated"
    say(f"{len(report.changed)} of {asked} files changed the annotation; {layer}")
    return 1 if report.faults else 0


def _tell_faults(faults: dict[str, str]) -> None:
    for case, fault in sorted(faults.items()):
        say(f"  refused {case}: {fault}")


if __name__ == "__main__":
    run_job(main)
