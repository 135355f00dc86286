"""A case of the store in a viewer."""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

from pwsseg.cli.command import Commands, store_of

if TYPE_CHECKING:
    from pwsseg.store import Layer, Store


def add_to(commands: Commands) -> None:
    """Add `view`."""
    parser = commands.add(view)
    parser.add_argument("case", metavar="CASE")
    parser.add_argument(
        "--layers",
        metavar="A,B",
        default="",
        help="such as annotation,ots2 (default: all that hold the case)",
    )
    parser.add_argument("--napari", action="store_true", help="in napari instead, from a folder")
    parser.add_argument("--no-browser", action="store_true", help="only print the address")


def view(args: argparse.Namespace) -> int:
    """Show a scan with its label layers in neuroglancer, served on this machine alone, until Ctrl-C."""
    from pwsseg.report.viewer import layers_of, showing

    store = store_of(args)
    layers = layers_of(store, args.case, [name for name in args.layers.split(",") if name])
    if args.napari:
        return _napari(store, args.case, layers)
    with showing(store, args.case, layers) as address:
        sys.stdout.write(f"{address}\n")
        sys.stdout.flush()
        if not args.no_browser:
            import webbrowser

            webbrowser.open(address)
        try:
            signal.pause()
        except KeyboardInterrupt:
            sys.stdout.write("\n")
    return 0


def _napari(store: Store, case: str, layers: list[Layer]) -> int:
    from pwsseg.report.viewer import folders_of
    from pwsseg.values import StoreError

    folders = folders_of(store, case, layers)
    try:
        return subprocess.call(["napari", "--plugin", "napari-ome-zarr", *folders])
    except FileNotFoundError as error:
        raise StoreError(
            "napari is not installed; pip install 'napari[pyqt6]' napari-ome-zarr, or leave --napari out"
        ) from error
