"""The review queue as files: a table, and scans with labels for ITK-SNAP and 3D Slicer.

OUT/review.csv                   the queue, one line a case
OUT/scans/CASE_0000.nii.gz       the CT
OUT/labels/CASE.nii.gz           the labels to correct; jobs/ingest.py --fix OUT/labels takes them back
OUT/itk-snap-labels.txt          names and colours: ITK-SNAP, Segmentation, Import Label Descriptions
OUT/slicer-colors.ctbl           the same for 3D Slicer, Add Data
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from pwsseg.formats.nifti import write_labels, write_scan
from pwsseg.formats.volume import Volume
from pwsseg.report.review import Entry
from pwsseg.store import Store
from pwsseg.values import InputError, LabelSet

COLUMNS = ("rank", "case", "split", "layer", "points", "slice", "slices", "height_mm", "reasons")


def review_csv(entries: Sequence[Entry]) -> str:
    """One line a case, the reasons joined by semicolons."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(COLUMNS)
    for rank, e in enumerate(entries, start=1):
        place = (e.slice, e.slices, e.height_mm)
        writer.writerow([rank, e.case, e.split, e.layer, e.points, *place, "; ".join(e.reasons)])
    return buffer.getvalue()


def write_csv(entries: Sequence[Entry], path: Path) -> Path:
    """Write the table; it appears whole or not at all. Raises InputError when `path` is a folder."""
    if path.is_dir():
        raise InputError(f"{path} is a folder; give a file for the queue, such as {path}/review.csv")
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.part")
    draft.write_text(review_csv(entries), encoding="utf-8")
    draft.replace(path)
    return path


def write_folder(store: Store, entries: Sequence[Entry], folder: Path) -> Path:
    """Write the queue as described above and return the folder. Raises InputError where that is a file.

    Labels that are there already stay: a person may have begun to correct them.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file; give a folder for the review")
    for name in ("scans", "labels"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "itk-snap-labels.txt").write_text(itk_snap_labels(store.label_set), encoding="utf-8")
    (folder / "slicer-colors.ctbl").write_text(slicer_colors(store.label_set), encoding="utf-8")
    for entry in entries:
        scan = store.scan(entry.case)
        labels = folder / "labels" / f"{entry.case}.nii.gz"
        write_scan(folder / "scans" / f"{entry.case}_0000.nii.gz", Volume(scan.read(), scan.geometry))
        if not labels.exists():
            write_labels(labels, Volume(store.layer(entry.layer).labels(entry.case), scan.geometry))
    write_csv(entries, folder / "review.csv")
    return folder


def itk_snap_labels(labels: LabelSet) -> str:
    """ITK-SNAP's label description: id, red, green, blue, opacity, visible in slices and in 3D, name."""
    lines = ["# ITK-SnAP Label Description File", '    0     0    0    0        0  0  0    "Clear Label"']
    for c in sorted(labels.classes, key=lambda c: c.id):
        red, green, blue = c.rgb
        lines.append(f'{c.id:>5} {red:>5} {green:>4} {blue:>4}        1  1  1    "{c.name}"')
    return "\n".join(lines) + "\n"


def slicer_colors(labels: LabelSet) -> str:
    """3D Slicer's colour table: id, name without spaces, red, green, blue, opacity."""
    lines = ["# Color table file", "0 background 0 0 0 0"]
    for c in sorted(labels.classes, key=lambda c: c.id):
        red, green, blue = c.rgb
        lines.append(f"{c.id} {c.name.replace(' ', '_')} {red} {green} {blue} 255")
    return "\n".join(lines) + "\n"
