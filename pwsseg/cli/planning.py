"""What a round will take, before it is run."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from pwsseg.cli.command import Commands, answer, store_given, store_of
from pwsseg.cli.text import size, table

if TYPE_CHECKING:
    from pwsseg.pipelines.plan import Plan


def add_to(commands: Commands) -> None:
    """Add `plan`."""
    parser = commands.add(plan, positional_store=True)
    parser.add_argument("--round", required=True, metavar="R", help="a file in the settings' rounds/")
    parser.add_argument(
        "--scale", default="flare23", metavar="S", help="a file in scales/ (default: flare23)"
    )
    parser.add_argument(
        "--settings", type=Path, default=Path("jobs"), help="folder of rounds/ and scales/ (default: jobs)"
    )
    parser.add_argument(
        "--scans", type=int, metavar="N", help="without a store: training scans, annotated as FLARE23's are"
    )
    parser.add_argument("--gpus", type=int, default=1, metavar="N", help="GPUs of the cluster (default: 1)")
    parser.add_argument(
        "--tflops",
        type=float,
        default=30.0,
        metavar="T",
        help="10^12 operations a second that one GPU sustains in these networks (default: 30)",
    )


def plan(args: argparse.Namespace) -> int:
    """Work out what a round will take: cases, steps, operations, memory, store growth, hours.

    Nothing runs. Without a store it plans for the scans of FLARE23.
    """
    from pwsseg.pipelines.plan import flare_work, plan_round, work_of
    from pwsseg.rounds import load_round
    from pwsseg.values import SettingsError

    if args.gpus < 1 or args.tflops <= 0:
        raise SettingsError(f"found --gpus {args.gpus} --tflops {args.tflops:g}; both must be above 0")
    settings = load_round(args.round, args.scale, folder=args.settings)
    if args.scans is not None and (args.scans < 1 or store_given(args)):
        raise SettingsError(
            f"found --scans {args.scans}; it must be above 0, and without a store to count in"
        )
    work = work_of(store_of(args), settings) if store_given(args) else flare_work(args.scans)
    planned = plan_round(settings, work, gpus=args.gpus, tflops=args.tflops)
    value = planned._asdict() | {"networks": [network._asdict() for network in planned.networks]}
    return answer(args, value, _text(planned))


def _text(plan: Plan) -> str:
    cases = plan.cases
    columns = ["network", "parameters", "epochs", "steps", "patches"]
    columns += ["training", "memory", "windows", "labelling", "memory"]
    rows = [
        [
            n.name,
            f"{n.parameters / 1e6:.2f} M",
            str(n.epochs),
            str(n.steps),
            str(n.steps * n.patches_a_step),
            f"{n.training_flops / 1e15:.1f} PFLOP, {_time(n.training_hours)}",
            size(n.worker_bytes),
            str(n.windows),
            f"{n.prediction_flops / 1e15:.1f} PFLOP, {_time(n.prediction_hours)}",
            size(n.labelling_bytes),
        ]
        for n in plan.networks
    ]
    assumed = f"  ({plan.assumed})\n" if plan.assumed else ""
    gpus = f"{plan.gpus} GPU{'s' if plan.gpus > 1 else ''}"
    workers = f"{plan.training_workers} training worker{'s' if plan.training_workers > 1 else ''}"
    return (
        f"{plan.round} at scale {plan.scale}\n"
        f"cases   {cases['full']} fully annotated, {cases['partial']} partly, {cases['unlabelled']} without; "
        f"{cases['trained']} learnt from, {cases['predicted']} labelled\n{assumed}\n"
        + table(columns, rows)
        + f"\nstore   {size(plan.prepared_bytes)} of prepared scans (deletable), {size(plan.layer_bytes)} of "
        "labels\n"
        f"time    {_time(plan.hours)} at {plan.tflops:g} TFLOP/s a GPU, {workers}, {gpus} labelling; "
        f"reading and augmenting run beside it\n"
        "memory  a training worker's; then what blending the largest scan's windows takes beside the "
        "network; without\n        what the GPU's libraries take for themselves\n"
    )


def _time(hours: float) -> str:
    return f"{hours:.1f} h" if hours >= 1 else f"{hours * 60:.1f} min"
