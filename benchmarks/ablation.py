"""What each part of the method adds, on phantoms with held-out truth: Table 5 of the paper in direction.

python benchmarks/ablation.py [--seeds 0 1 2] [--keep DIR] [--json FILE]

Every seed is a corpus of its own (6 scans with all organs annotated, 2 with five, 8 with five and tumor, 4
with the tumor alone, 12 with nothing, 10 held out) and goes through the four rounds at the scale `laptop`, in
which organ rounds train for as many epochs as tumor rounds (--organ-epochs), and through these, each of which
differs from its round in one thing:

    os1-plain        os1 from its labelled scans alone, without cross supervision
    ots1-no-fusion   ots1 from simple pseudo labels: annotated organs don't count, only tumors (PWS-Seg*)
    ots1-annotation  ots1 from annotation alone: what nobody annotated stays unknown
    ots1-scratch     ots1 from scratch rather than from the weights of os2
    ots1-larger      the same with a network half as wide again
    ots2-no-unlabelled   ots2 without the scans that nobody annotated

A figure is the mean over seeds with the standard deviation over seeds; a gain is taken seed by seed.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # a fresh clone needs no installation of the package itself

from pwsseg.arrays.metrics import summarise  # noqa: E402
from pwsseg.store import Store  # noqa: E402

ROUNDS = ("os1", "os2", "ots1", "ots2")
CORPUS = (
    "--organs 6 --five-organs 2 --five-organs-and-tumor 8 --tumor-only 4 --unannotated 12 --validation 10"
)
PREDICTS = (r"predicts = \[.*\]", "predicts = []")
VARIANTS: dict[str, tuple[str, str, list[tuple[str, str]]]] = {
    "os1-plain": (
        "os1",
        "laptop",
        [
            (r'supervision = "cross"', 'supervision = "plain"'),
            (r'partial = "unlabelled"', 'partial = "dropped"'),
            (r'unlabelled = "unlabelled"', 'unlabelled = "dropped"'),
        ],
    ),
    "ots1-no-fusion": ("ots1", "laptop", [(r'fusion = "tumor-over-organ"', 'fusion = "pseudo-organs"')]),
    "ots1-annotation": ("ots1", "laptop", [(r'partial = "fused"', 'partial = "annotated"')]),
    "ots1-larger": ("ots1", "laptop-larger", [(r'starts_from = "os2"', 'starts_from = "scratch"')]),
    "ots1-scratch": ("ots1", "laptop", [(r'starts_from = "os2"', 'starts_from = "scratch"')]),
    "ots2-no-unlabelled": (
        "ots2",
        "laptop",
        [(r'unlabelled = "fused"', 'unlabelled = "dropped"'), (r"\[selection\]\n(\w.*\n)+", "")],
    ),
}
"""Each variant: the round that it varies, its scale, and what is replaced in the round's file."""
GAINS = {
    "fusion_gain": ("ots1", "ots1-no-fusion"),
    "pseudo_gain": ("ots1", "ots1-annotation"),
    "unlabelled_gain": ("ots2", "ots2-no-unlabelled"),
    "cross_gain": ("os1", "os1-plain"),
    "larger_gain": ("ots1-larger", "ots1-scratch"),
}


def main() -> int:
    """Run all seeds and print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--organ-epochs", type=int, default=20, help="of os1 and os2 (default: 20)")
    parser.add_argument(
        "--keep", type=Path, metavar="DIR", help="keep corpora and stores here, and go on there"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here, too")
    given = parser.parse_args()
    began = time.perf_counter()
    with TemporaryDirectory() as scratch:
        folder = given.keep or Path(scratch)
        settings = write_settings(folder / "settings", organ_epochs=given.organ_epochs)
        scores = {seed: run_seed(seed, folder / f"seed-{seed}", settings) for seed in given.seeds}
    answer = figures(scores) | {"seeds": given.seeds, "minutes": round((time.perf_counter() - began) / 60, 1)}
    print(text(answer))
    if given.json:
        given.json.write_text(json.dumps(answer, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(answer))
    return 0


def write_settings(folder: Path, *, organ_epochs: int) -> Path:
    """The project's settings without the gate, whose limits are for labels in use, and with the variants."""
    shutil.rmtree(folder, ignore_errors=True)
    for part in ("rounds", "scales"):
        shutil.copytree(ROOT / "jobs" / part, folder / part)
    for path in (folder / "rounds").glob("*.toml"):
        path.write_text(re.sub(r"\[drift\]\n(\w.*\n)+", "", path.read_text(encoding="utf-8")))
    for name, (parent, _, changes) in VARIANTS.items():
        said = (folder / "rounds" / f"{parent}.toml").read_text(encoding="utf-8")
        for old, new in (*changes, PREDICTS):
            said, count = re.subn(rf"(?m)^{old}", new, said)
            assert count == 1, f"{parent}.toml holds {old!r} {count} times"
        (folder / "rounds" / f"{name}.toml").write_text(said, encoding="utf-8")
    scale = folder / "scales" / "laptop.toml"
    laptop = re.sub(r"(?m)^(epochs\w*) = 6$", rf"\1 = {organ_epochs}", scale.read_text(encoding="utf-8"))
    scale.write_text(laptop, encoding="utf-8")
    before, ots = laptop.split("[ots.network]")
    wider = ots.replace("widths = [16, 32, 64, 64]", "widths = [24, 48, 96, 96]")
    assert wider != ots
    (folder / "scales" / "laptop-larger.toml").write_text(f"{before}[ots.network]{wider}", encoding="utf-8")
    return folder


def run_seed(seed: int, folder: Path, settings: Path) -> dict[str, dict[str, float]]:
    """All rounds and variants of one seed; organ, tumor and mean DSC and NSD of each, in percent."""
    corpus, place = folder / "corpus", ("--store", folder / "store")
    job("phantom", "--out", corpus, "--seed", seed, *CORPUS.split())
    job("ingest", *place, "--images", corpus, "--annotated", corpus / "annotated.csv")
    runs = [(name, "laptop") for name in ROUNDS] + [(name, scale) for name, (_, scale, _) in VARIANTS.items()]
    for name, scale in runs:
        job("round", "--round", name, "--scale", scale, "--settings", settings, "--seed", seed, *place)
    names = [name for name, _ in runs]
    job("evaluate", *place, "--layer", *names)
    store = Store.open(folder / "store")
    return {name: _scores(store, name) for name in names}


def job(name: str, *options: object) -> None:
    """Run jobs/<name>.py in a process of its own, as people do."""
    command = [sys.executable, str(ROOT / "jobs" / f"{name}.py"), *map(str, options)]
    began = time.perf_counter()
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    print(f"  {time.perf_counter() - began:5.0f} s  {name} {' '.join(map(str, options))[-90:]}", flush=True)


def _scores(store: Store, name: str) -> dict[str, float]:
    rows = store.scores(name, "annotation")
    assert rows is not None
    summary = summarise(rows)
    found: dict[str, float] = {}
    for group, spread in (("organs", summary.organs), ("tumor", summary.tumor), ("mean", summary.mean)):
        if spread is not None:
            found |= {f"{group}_dsc": 100 * spread.dsc, f"{group}_nsd": 100 * spread.nsd}
    return found


def figures(scores: dict[int, dict[str, dict[str, float]]]) -> dict[str, Any]:
    """Means and spreads over seeds, and the gains."""
    names = next(iter(scores.values())).keys()
    means = {
        name: {
            key: spread([scores[seed][name][key] for seed in scores])
            for key in next(iter(scores.values()))[name]
        }
        for name in names
    }
    gains = {
        gain: {
            key: spread([scores[seed][more][key] - scores[seed][less][key] for seed in scores])
            for key in means[more].keys() & means[less].keys()
        }
        for gain, (more, less) in GAINS.items()
    }
    return {"round_means": means, **gains}


def spread(values: list[float]) -> dict[str, float]:
    """Mean and standard deviation over seeds (n - 1; 0 for one)."""
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return {"mean": round(statistics.fmean(values), 2), "sd": round(deviation, 2)}


def text(answer: dict[str, Any]) -> str:
    """The figures as Markdown."""
    columns = ("organs_dsc", "organs_nsd", "tumor_dsc", "tumor_nsd", "mean_dsc")
    head = "| | organs DSC | NSD | tumor DSC | NSD | all DSC |\n|---|---|---|---|---|---|\n"

    def line(name: str, row: dict[str, dict[str, float]], sign: str) -> str:
        cells = [f"{row[c]['mean']:{sign}.1f} ± {row[c]['sd']:.1f}" if c in row else "-" for c in columns]
        return f"| {name} | {' | '.join(cells)} |\n"

    rounds = "".join(line(name, row, "") for name, row in answer["round_means"].items())
    gains = "".join(
        line(f"{name}: {GAINS[name][0]} less {GAINS[name][1]}", answer[name], "+") for name in GAINS
    )
    return f"\n{head}{rounds}\n{head}{gains}\n{len(answer['seeds'])} seeds, {answer['minutes']} minutes\n"


if __name__ == "__main__":
    sys.exit(main())
