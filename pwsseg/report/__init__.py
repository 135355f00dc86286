"""What a store holds, told to people: tables for the terminal, pictures, one HTML page."""

from pwsseg.report.overlays import overlay_png
from pwsseg.report.page import write_report
from pwsseg.report.tables import rounds_table

__all__ = ["overlay_png", "rounds_table", "write_report"]
