"""Made tests/stores/v1, once: PYTHONPATH=. python tests/make_old_store.py tests/stores/v1

What is kept there is never made again: it says what stores of format 1 held at first, on 2026-11-24. A later
format gets a folder of its own beside it.
"""

import shutil
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from filled_store import CLASSES, add_annotation, add_model, add_scan, label_volume, prediction_pins

from pwsseg.store import Store


def make(folder: Path) -> None:
    store = Store.create(folder)
    add_scan(store, "case-a")
    add_scan(store, "case-b", "validation")
    annotation = add_annotation(store, ("case-a",))
    with TemporaryDirectory() as weights:
        model = add_model(store, annotation, Path(weights))
    draft = store.draft(prediction_pins(annotation, model))
    for shift, case in enumerate(("case-a", "case-b")):
        draft.write(case, label_volume(shift), annotated_classes=CLASSES, seconds={"predict": 1.25})
    draft.publish(["case-a", "case-b"])
    store.write_scores("os1", "annotation", [{"case": "case-a", "class": 1, "dsc": 1.0, "nsd": 1.0}])


if __name__ == "__main__":
    target = Path(sys.argv[1])
    if target.exists():
        sys.exit(f"{target} exists; an old store is never overwritten")
    make(target)
    shutil.rmtree(target / "runs", ignore_errors=True)
