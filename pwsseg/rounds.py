"""Settings of a round: science (jobs/rounds/<round>.toml) x size (jobs/scales/<scale>.toml).

    load_round("os2", "laptop", folder=Path("jobs")) -> RoundSettings

A round's file holds no machine, a scale's file no science; a key in both is an error. A scale has a table
for each stage, of which the round takes its own.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pwsseg.arrays.augmentation import AugmentationSettings
from pwsseg.arrays.drift import DriftLimits
from pwsseg.arrays.fusion import TumorDivision, TumorRule
from pwsseg.networks.kinds import NetworkShape
from pwsseg.networks.losses import LossName, activation_of, channels_of
from pwsseg.networks.prediction import Axis, BoxSettings, PostProcessing, PredictionSettings
from pwsseg.networks.sizes import Count, Millimetres, OrganSize, StageSize
from pwsseg.networks.supervision import Supervision
from pwsseg.store.digests import json_digest
from pwsseg.values import FLARE23, SettingsError, shown
from pwsseg.values.numbers import finite

ANNOTATION = "annotation"
"""The name of the layer that holds what people drew."""
DECIDING = {"spacing", "overlap", "mirrored", "training_workers", "least_training_workers", "patches_each"}
"""Keys of a scale outside its stages that decide what labels are; the others decide speed."""
Fraction = Annotated[float, Field(ge=0, le=1)]
Part = TypeVar("Part", bound=BaseModel)


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class CaseRoles(_Settings):
    """What the round does with each kind of training case.

    `annotated`: learns from the annotation alone. `fused`: from the annotation fused over the pseudo
    labels. `unlabelled`: through cross supervision only. `dropped`: not at all.
    """

    full: Literal["annotated", "fused"]
    """P_O: the annotated classes include `labelled_at_least`."""
    partial: Literal["annotated", "fused", "unlabelled", "dropped"]
    """P_OT: annotated, but less."""
    unlabelled: Literal["fused", "unlabelled", "dropped"]
    """U: no annotation."""
    partial_needs: tuple[int, ...]
    """Partial cases whose annotation lacks one of these classes are dropped."""


class Selection(_Settings):
    """The least stable pseudo labels are left out (rule `stability`; METHOD.md, Selection)."""

    over: tuple[str, str, str]
    """The rounds whose labels are compared, in order."""
    keep: Fraction
    """The share of unlabelled cases that is kept: FLARE22's winner kept 1924 of 2000."""


class Representatives(_Settings):
    """Only some unlabelled scans are learnt from, those that cover all (rule `farthest-point`)."""

    keep: Fraction
    """The share of unlabelled cases that is kept."""
    encoder: str
    """The round whose newest model describes the scans; `untrained` for this round's network as it begins."""


class Science(_Settings):
    """What a round computes: the keys of jobs/rounds/<round>.toml."""

    about: str
    stage: Literal["os", "ots"]
    classes: tuple[int, ...]
    learns_from: tuple[str, ...]
    """Layers, oldest first; the last one that is not the annotation gives the pseudo labels."""
    labelled_at_least: tuple[int, ...]
    starts_from: str
    """`scratch`, or the round whose weights it goes on from (Algorithm 1 initialises each network once)."""
    cases: CaseRoles
    tumor_division: TumorDivision | None = None
    fusion: TumorRule
    selection: Selection | None = None
    representatives: Representatives | None = None
    supervision: Supervision
    ramp_up: bool
    confidence: Fraction = 0.0
    """Cross supervision leaves out voxels of which the other sub-network is less sure; the paper: none, 0."""
    predict_with: Literal["f1", "mean"]
    loss: LossName
    schedule: Literal["steps", "poly"]
    betas: tuple[float, float]
    weight_decay: float = Field(ge=0)
    weight_average: float | None = Field(default=None, gt=0, lt=1)
    """Decay of a running mean of the weights that becomes the model; None keeps the last weights."""
    clip_hu: tuple[float, float]
    foreground: Fraction
    favoured: dict[int, Fraction]
    """Share of labelled patches centred on a class present; classes that take a share of these alone."""
    augmentation: AugmentationSettings
    predicts: tuple[Literal["full", "partial", "unlabelled"], ...]
    """Kinds of training case to predict; held-out validation cases always are."""
    post_processing: PostProcessing
    drift: DriftLimits | None = None
    """The gate before publishing; it decides whether labels are published, never what they are."""


class Needs(_Settings):
    """The least machine that the scale is for; checked before anything runs."""

    gpus: int = Field(ge=0)
    memory_gb: float = Field(ge=0)


class Scale(_Settings):
    """How large a round is computed: the keys of jobs/scales/<scale>.toml."""

    spacing: tuple[Millimetres, Millimetres, Millimetres]
    overlap: float = Field(ge=0, lt=1)
    windows_a_batch: Count
    compiled: bool = False
    """Networks are compiled before they predict: half a minute a process (networks/compiling.py)."""
    mirrored: tuple[Axis, ...] = ()
    training_workers: Count
    least_training_workers: Count | None = None
    """With fewer nodes than that many workers need, a training goes on with fewer of them, down to this."""
    patches_each: Count
    """Patches cut from a volume each time it is loaded."""
    cached_volumes: Count
    """Prepared volumes that each training worker holds in memory."""
    needs: Needs
    os: OrganSize
    ots: StageSize


class RoundSettings(_Settings):
    """One round at one size with one seed: everything that decides what comes out."""

    name: str
    scale_name: str
    seed: int
    science: Science
    scale: Scale
    box: BoxSettings | None = None
    """Known once the coarse network is trained; None where scans are not cropped."""

    @property
    def stage(self) -> StageSize:
        """The size of this round's own stage."""
        return self.scale.os if self.science.stage == "os" else self.scale.ots

    @property
    def pseudo(self) -> str | None:
        """The layer that gives the pseudo labels; None for a round that learns from annotation alone."""
        return next((p for p in reversed(self.science.learns_from) if p != ANNOTATION), None)

    @property
    def epochs(self) -> int:
        """How many epochs this round trains."""
        fresh = self.science.starts_from == "scratch"
        return self.stage.epochs if fresh else self.stage.epochs_going_on

    @property
    def recipe(self) -> str:
        """The name of the prepared cache: a digest of all that decides its voxels."""
        said: dict[str, Any] = {"spacing": self.scale.spacing, "clip_hu": self.science.clip_hu, "version": 3}
        if self.stage.resized:
            said["spacing"] = {"resized": self.stage.patch}
        if self.box:
            said["box"] = self.box.model_dump(mode="json")
        return f"prepared-{json_digest(said)[:12]}"

    @property
    def coarse(self) -> RoundSettings | None:
        """The round's coarse network, trained before its own as a round `<name>-coarse`; None without one."""
        size, parent = self.scale.os.coarse, self.science.starts_from
        if self.science.stage != "os" or size is None:
            return None
        parent = parent if parent == "scratch" else f"{parent}-coarse"
        stage = OrganSize.model_validate(size.model_dump(exclude={"margin_mm"}))
        changes = {
            "name": f"{self.name}-coarse",
            "science": self.science.model_copy(update={"starts_from": parent}),
            "scale": self.scale.model_copy(update={"os": stage}),
        }
        return self.model_copy(update=changes)

    @property
    def network(self) -> NetworkShape:
        """What builds the round's network."""
        return self.stage.network

    @property
    def channels(self) -> tuple[int, ...]:
        """The label of each output channel."""
        return channels_of(activation_of(self.science.loss), self.science.classes)

    @property
    def prediction(self) -> PredictionSettings:
        """What the round's model will need to predict."""
        science, scale = self.science, self.scale
        return PredictionSettings(
            network=self.network,
            supervision=science.supervision,
            predict_with=science.predict_with,
            activation=activation_of(science.loss),
            classes=science.classes,
            spacing=scale.spacing,
            clip_hu=science.clip_hu,
            box=self.box,
            patch=self.stage.patch,
            resized=self.stage.resized,
            overlap=scale.overlap,
            windows_a_batch=scale.windows_a_batch,
            compiled=scale.compiled,
            mirrored=scale.mirrored,
            post_processing=science.post_processing,
        )

    def pinned(self) -> dict[str, Any]:
        """The settings as they go into records: science, the stage's own size and the seed.

        What this round does not use, and what only decides speed, is left out: it makes no new version.
        """
        size = self.scale.model_dump(mode="json", include=DECIDING)
        stage = self.stage.model_dump(mode="json", exclude={"epochs", "epochs_going_on"})
        return {
            "round": self.name,
            "seed": self.seed,
            "science": self.science.model_dump(mode="json", exclude={"about", "drift"}),
            "box": self.box and self.box.model_dump(mode="json"),
            "size": size | {"stage": stage | {"epochs": self.epochs}},
        }


def load_round(name: str, scale: str, *, folder: Path, seed: int = 0) -> RoundSettings:
    """Read jobs/rounds/<name>.toml x jobs/scales/<scale>.toml.

    Raises
    ------
    SettingsError
        When a name is unknown, a file is not TOML, a key is unknown, missing, out of range or in both.
    """
    science = _read(folder / "rounds", name, "round")
    size = _read(folder / "scales", scale, "scale")
    if both := sorted(set(science) & set(size)):
        raise SettingsError(
            f"{', '.join(both)} stands both in rounds/{name}.toml and in scales/{scale}.toml; a round holds "
            f"science and a scale holds size: remove it from one of them"
        )
    checked = _validated(Science, science, folder / "rounds" / f"{name}.toml")
    sized = _validated(Scale, size, folder / "scales" / f"{scale}.toml")
    for fault in _science_faults(checked, folder / "rounds"):
        raise SettingsError(f"{folder / 'rounds' / name}.toml: {fault}")
    for fault in _size_faults(sized):
        raise SettingsError(f"{folder / 'scales' / scale}.toml: {fault}")
    checked = checked.model_copy(update={"starts_from": _start(checked, sized, folder / "rounds")})
    return RoundSettings(name=name, scale_name=scale, seed=seed, science=checked, scale=sized)


def _start(science: Science, scale: Scale, folder: Path) -> str:
    """The round that it goes on from; `scratch` where that round's stage has a network of another form."""
    if science.starts_from == "scratch":
        return science.starts_from
    networks = {"os": scale.os.network, "ots": scale.ots.network}
    parent = _read(folder, science.starts_from, "round").get("stage", science.stage)
    return science.starts_from if networks.get(str(parent)) == networks[science.stage] else "scratch"


def round_names(folder: Path) -> list[str]:
    """The rounds that have a file, in the order in which they learn from each other."""
    names = {p.stem for p in (folder / "rounds").glob("*.toml")}
    ordered: list[str] = []
    said = {n: _read(folder / "rounds", n, "round").get("learns_from") for n in names}
    waiting = {n: names.intersection(map(str, p if isinstance(p, list) else ())) for n, p in said.items()}
    while waiting:
        if not (ready := sorted(n for n, parents in waiting.items() if parents <= set(ordered))):
            raise SettingsError(f"rounds {', '.join(sorted(waiting))} learn from each other in a circle")
        ordered += ready
        waiting = {n: p for n, p in waiting.items() if n not in ready}
    return ordered


def _read(folder: Path, name: str, kind: str) -> dict[str, Any]:
    path = folder / f"{name}.toml"
    if not path.is_file() or path.parent != folder:
        known = f"{folder} has " + (", ".join(sorted(p.stem for p in folder.glob("*.toml"))) or "none")
        raise SettingsError(f"unknown {kind} '{name}': {known}; give one of these or add {path.name}")
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"), parse_float=finite)
    except (ValueError, RecursionError, OSError) as error:  # a TOMLDecodeError is a ValueError
        raise SettingsError(f"{path} is not valid TOML ({error}); correct the file") from error


def _validated(part: type[Part], said: dict[str, Any], path: Path) -> Part:
    try:
        return part.model_validate(said)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(p) for p in first["loc"]) or "the file"
        raise SettingsError(
            f"{path}: {where}: {first['msg'].lower()} (found {shown(first['input'])}); correct the file"
        ) from error


def _science_faults(science: Science, folder: Path) -> Iterator[str]:
    """What no single key of a round's file can say."""
    classes = science.classes
    if not classes or not set(classes) <= set(FLARE23.ids) or len(set(classes)) < len(classes):
        yield f"classes must be ids of the label set {FLARE23.name} (1..14), each once; found {classes}"
    if science.learns_from[:1] != (ANNOTATION,):
        yield f"learns_from must begin with '{ANNOTATION}', found {science.learns_from}"
    roles = science.cases
    if "fused" in (roles.full, roles.partial, roles.unlabelled) and set(science.learns_from) == {ANNOTATION}:
        yield "cases are fused, but learns_from names no round with pseudo labels; add one"
    if "unlabelled" in (roles.partial, roles.unlabelled) and science.supervision == "plain":
        yield "plain supervision can't learn from unlabelled cases; say dropped"
    if science.representatives and "unlabelled" not in (roles.partial, roles.unlabelled):
        yield "[representatives] chooses among unlabelled cases, and no kind of case is unlabelled; remove it"
    if science.clip_hu[0] >= science.clip_hu[1]:
        yield f"clip_hu must be (low, high), found {science.clip_hu}"
    compared = science.selection.over if science.selection else ()
    named = {*science.learns_from, science.starts_from, *compared}
    if absent := sorted(named - {ANNOTATION, "scratch"} - {p.stem for p in folder.glob("*.toml")}):
        yield f"builds on {', '.join(absent)}, which has no file in {folder}; add it or name another round"


def _size_faults(scale: Scale) -> Iterator[str]:
    """What no single key of a scale's file can say."""
    workers, least = scale.training_workers, scale.least_training_workers
    if least and least > workers:
        yield f"least_training_workers {least} is more than training_workers {workers}; lower or remove it"
    coarse = [("os.coarse", scale.os.coarse)] if scale.os.coarse else []
    for stage, size in (("os", scale.os), ("ots", scale.ots), *coarse):
        if stage == "os" and size.resized and not coarse:
            yield "[os] resized = true is for boxes that a coarse network finds; add [os.coarse] or remove it"
        divisor = size.network.divisor
        if any(p % d for p, d in zip(size.patch, divisor, strict=True)):
            yield f"[{stage}] patch {size.patch} must be a multiple of {divisor}, the network's strides"
        for key in ("labelled_batch", "unlabelled_batch"):
            if (batch := getattr(size, key)) % workers:
                yield f"[{stage}] {key} {batch} can't be split evenly over {workers} workers; take a multiple"
