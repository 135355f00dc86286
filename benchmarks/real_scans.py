"""Real CTs: learn from some, score on another, as far as their number allows.

python benchmarks/real_scans.py [--held-out ts tsd s0024 s0028] [--organ-epochs 20] [--keep DIR]

The annotated scans of ../shared/data take turns: each in its own run is held out with its labels, the others
go through the four rounds at the scale `laptop`, and the classes that are stated in the held-out scan are
scored. A case counts as labelled when its pancreas is, ots1 takes cases without annotated tumors, and the
gate is off. With --keep, overlays of each held-out scan lie in DIR: its annotation, and the labels of ots2.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from ablation import ROOT, ROUNDS, job, write_settings

sys.path.insert(0, str(ROOT))  # a fresh clone needs no installation of the package itself

from pwsseg.report.overlays import fullest_slice, orient, overlay_png
from pwsseg.store import Store
from pwsseg.values import FLARE23

REAL = ROOT.parent / "shared" / "data" / "flare"
CASES = ("ts", "tsd", "s0024", "s0028")
CHANGES = (
    (r"labelled_at_least = \[.*\]", "labelled_at_least = [4]"),
    (r"partial_needs = \[14\]", "partial_needs = []"),
)


def main() -> None:
    """Run every fold and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--held-out", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--organ-epochs", type=int, default=20, help="of os1 and os2 (default: 20)")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep stores and overlays here")
    given = parser.parse_args()
    scores: dict[str, dict[str, dict[int, float]]] = {}
    with TemporaryDirectory() as scratch:
        folder = given.keep or Path(scratch)
        settings = relaxed_settings(folder / "settings", organ_epochs=given.organ_epochs)
        for case in given.held_out:
            scores[case] = run_fold(case, folder / case, settings)
    print(text(scores))
    each = {name: [dsc for rounds in scores.values() for dsc in rounds[name].values()] for name in ROUNDS}
    print(json.dumps({f"{name}_dsc": round(sum(found) / len(found), 3) for name, found in each.items()}))


def relaxed_settings(folder: Path, *, organ_epochs: int) -> Path:
    """The project's settings for scans of which none has all organs annotated."""
    write_settings(folder, organ_epochs=organ_epochs)
    for path in (folder / "rounds").glob("*.toml"):
        said = path.read_text(encoding="utf-8")
        for old, new in CHANGES:
            said = re.sub(rf"(?m)^{old}", new, said)
        path.write_text(said, encoding="utf-8")
    return folder


def run_fold(held_out: str, folder: Path, settings: Path) -> dict[str, dict[int, float]]:
    """All rounds without one scan; the DSC of each class stated in it, by round."""
    shutil.rmtree(folder, ignore_errors=True)
    corpus, place = folder / "corpus", ("--store", folder / "store")
    shutil.copytree(REAL, corpus, ignore=shutil.ignore_patterns("duplicate"))
    for kind, name in (("images", f"{held_out}_0000.nii.gz"), ("labels", f"{held_out}.nii.gz")):
        (corpus / f"{kind}Val").mkdir()
        (corpus / f"{kind}Tr" / name).rename(corpus / f"{kind}Val" / name)
    job("ingest", *place, "--images", corpus, "--annotated", corpus / "annotated.csv")
    for name in ROUNDS:
        job("round", "--round", name, "--scale", "laptop", "--settings", settings, *place)
    job("evaluate", *place, "--layer", *ROUNDS)
    store = Store.open(folder / "store")
    stated = store.layer("annotation").labels(held_out)
    z = fullest_slice(orient(stated, store.scan(held_out).geometry).array)
    for name in ("annotation", ROUNDS[-1]):
        overlay_png(store, held_out, name, folder.parent / f"{held_out}-{name}.png", index=z)
    return {
        name: {row["class"]: row["dsc"] for row in store.scores(name, "annotation") or []} for name in ROUNDS
    }


def text(scores: dict[str, dict[str, dict[int, float]]]) -> str:
    """The figures as Markdown."""
    lines = [f"| held out | class | {' | '.join(ROUNDS)} |", "|---" * (2 + len(ROUNDS)) + "|"]
    for case, rounds in scores.items():
        for label in sorted({c for found in rounds.values() for c in found}):
            cells = [f"{100 * rounds[n][label]:.1f}" if label in rounds[n] else "-" for n in ROUNDS]
            lines.append(f"| {case} | {FLARE23[label].name} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
