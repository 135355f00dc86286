"""Giving layers and models up. Like `verify --repair`, these change a store, and only remove."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from pwsseg.cli.command import Commands, answer, store_of
from pwsseg.cli.text import size, table

if TYPE_CHECKING:
    from pwsseg.store import RetirementRecord


def add_to(commands: Commands) -> None:
    """Add `retire` and `gc`."""
    parser = commands.add(retire)
    parser.add_argument("layer", nargs="*", metavar="LAYER", help="such as os1.v1, the full id")
    parser.add_argument(
        "--model", nargs="+", default=[], metavar="M", help="models, such as os1.v1, the same way"
    )
    parser.add_argument("--undo", action="store_true", help="bring back what `gc` has not deleted yet")
    commands.add(gc, positional_store=True).add_argument(
        "--dry-run", action="store_true", help="only say what would be deleted"
    )


def retire(args: argparse.Namespace) -> int:
    """Give layers or models up that nothing kept was made from; nothing is deleted until `gc`.

    What is retired is no source any more and is passed over as the newest version; by its id it can still be
    read.
    """
    from pwsseg.store import retention
    from pwsseg.store.graph import Key
    from pwsseg.values import StoreError

    store = store_of(args)
    wanted = [Key("layers", i) for i in args.layer] + [Key("models", i) for i in args.model]
    if not wanted:
        raise StoreError("nothing to retire was named; give a layer such as os1.v1, or --model os1.v1")
    if args.undo:
        retention.restore(store, wanted)
        text = "".join(f"{retention.said(key)} is kept again\n" for key in wanted)
        return answer(args, [key._asdict() for key in wanted], text)
    records = retention.retire(store, wanted)
    back = " ".join(["pwsseg retire --undo", *args.layer, *(["--model", *args.model] if args.model else [])])
    text = _listed("retired", records) + f"`pwsseg gc` frees {_sum(records)}; `{back}` takes it back\n"
    return answer(args, [r.model_dump(mode="json") for r in records], text)


def gc(args: argparse.Namespace) -> int:
    """Delete the voxels and weights of what is retired; records, manifests and all annotation stay."""
    from pwsseg.store import retention

    store = store_of(args)
    found = retention.collect(store, dry_run=args.dry_run)
    verb = "would delete" if args.dry_run else "deleted"
    text = _listed(verb, found.deleted)
    for record, needing in found.needed:
        names = ", ".join(retention.said(key) for key in needing)
        text += f"left  {_named(record)}: {names} came of it since, and is kept\n"
    text += f"{_sum(found.deleted)} {'would be' if args.dry_run else ''} freed\n".replace("  ", " ")
    value = [r.model_dump(mode="json") for r in found.deleted]
    return answer(args, {"dry_run": args.dry_run, "deleted": value}, text)


def _listed(verb: str, records: list[RetirementRecord]) -> str:
    return table([], [[verb, _named(r), size(r.frees)] for r in records])


def _named(record: RetirementRecord) -> str:
    return f"{record.room.removesuffix('s')} {record.pin.id}"


def _sum(records: list[RetirementRecord]) -> str:
    return size(sum(r.frees for r in records))
