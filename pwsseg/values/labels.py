"""The classes that a label volume can name."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

UNKNOWN = 255
"""The label of a voxel that nothing is known about: ignored by losses, never predicted."""


class LabelClass(BaseModel):
    """One class: its id in label volumes, its name, its colour."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: int = Field(ge=1, le=254)
    name: str
    short: str
    color: str = Field(pattern="^#[0-9a-f]{6}$")
    nsd_tolerance_mm: float = Field(gt=0)

    @property
    def rgb(self) -> tuple[int, int, int]:
        """The colour as red, green, blue, 0 to 255."""
        red, green, blue = bytes.fromhex(self.color[1:])
        return red, green, blue


class LabelSet(BaseModel):
    """A named set of classes; 0 is background (or unknown, see annotated classes)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    classes: tuple[LabelClass, ...]
    tumor: int
    """Id of the class that lies over organs."""

    @property
    def ids(self) -> tuple[int, ...]:
        """Every class id, ascending."""
        return tuple(sorted(c.id for c in self.classes))

    @property
    def organs(self) -> tuple[int, ...]:
        """Every class id but the tumor's, ascending."""
        return tuple(i for i in self.ids if i != self.tumor)

    def __getitem__(self, label: int) -> LabelClass:
        """The class with this id; KeyError when the set has none."""
        for c in self.classes:
            if c.id == label:
                return c
        raise KeyError(label)


def _flare(label: int, name: str, short: str, color: str, tolerance: float) -> LabelClass:
    return LabelClass(id=label, name=name, short=short, color=color, nsd_tolerance_mm=tolerance)


FLARE23 = LabelSet(
    name="FLARE23",
    tumor=14,
    classes=(
        _flare(1, "liver", "LI", "#c0504d", 5),
        _flare(2, "right kidney", "RK", "#4f81bd", 3),
        _flare(3, "spleen", "SP", "#9bbb59", 3),
        _flare(4, "pancreas", "PA", "#f2c14e", 5),
        _flare(5, "aorta", "AO", "#e63946", 2),
        _flare(6, "inferior vena cava", "IVC", "#457b9d", 2),
        _flare(7, "right adrenal gland", "RAG", "#f4a261", 2),
        _flare(8, "left adrenal gland", "LAG", "#e9c46a", 2),
        _flare(9, "gallbladder", "GB", "#2a9d8f", 2),
        _flare(10, "esophagus", "ES", "#b5838d", 3),
        _flare(11, "stomach", "ST", "#8e7dbe", 5),
        _flare(12, "duodenum", "DU", "#a47148", 7),
        _flare(13, "left kidney", "LK", "#5fa8d3", 3),
        _flare(14, "tumor", "TU", "#ff00c8", 2),
    ),
)
"""FLARE 2023's classes; tolerances of the normalised surface distance as its organisers score them."""
