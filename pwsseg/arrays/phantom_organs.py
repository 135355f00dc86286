"""The phantom's 13 organs and the vessels between them, in the frame of `phantom_body`.

Where organs touch, the softer one gives way: the liver is dented by kidney, gallbladder and vena cava.
Enhancement is drawn per person and neighbours share their range of HU, so no threshold finds an organ.
"""

from __future__ import annotations

from dataclasses import dataclass

from pwsseg.arrays.phantom_body import FAR, Core, Part, Trunk, Vary, hollow
from pwsseg.arrays.phantom_shapes import Shape, Vector, blended, ellipsoid, grown, slab, tube, within, without

LIVER, RIGHT_KIDNEY, SPLEEN, PANCREAS, AORTA, CAVA, RIGHT_ADRENAL, LEFT_ADRENAL = range(1, 9)
GALLBLADDER, ESOPHAGUS, STOMACH, DUODENUM, LEFT_KIDNEY = range(9, 14)


@dataclass(frozen=True)
class Enhancement:
    """HU of one person's tissues after contrast medium, arterial to portal phase."""

    liver: float
    spleen: float
    pancreas: float
    cortex: float
    medulla: float
    aorta: float
    veins: float
    adrenal: float
    gut_wall: float


def vary_enhancement(vary: Vary) -> Enhancement:
    """The phase and dose of one scan."""
    portal, dose = vary.between(0.25, 1.0), vary.between(0.75, 1.2)

    def hu(native: float, arterial: float, late: float) -> float:
        gain = arterial + (late - arterial) * portal
        return native + dose * vary.about(gain, share=0.1)

    return Enhancement(
        liver=hu(54, 15, 52),
        spleen=hu(46, 55, 68),
        pancreas=hu(38, 62, 52),
        cortex=hu(34, 150, 135),
        medulla=hu(32, 40, 125),
        aorta=hu(40, 250, 100),
        veins=hu(40, 60, 105),
        adrenal=hu(30, 40, 42),
        gut_wall=hu(38, 35, 45),
    )


def organ_shapes(vary: Vary, trunk: Trunk) -> dict[int, Shape]:
    """A shape for every organ class, none reaching into another by more than the painting order hides."""
    room = grown(trunk.abdomen, -1.5)
    right_kidney, right_sinus = _kidney(vary, vary.at(-61, 13, -22, by_mm=4), side=-1)
    left_kidney, left_sinus = _kidney(vary, vary.at(62, 13, -9, by_mm=4), side=1)
    shapes = {
        RIGHT_KIDNEY: right_kidney,
        LEFT_KIDNEY: left_kidney,
        AORTA: _aorta(vary),
        CAVA: _vena_cava(vary),
        ESOPHAGUS: tube(((4, -22, 190), (6, -23, 125), (17, -30, 98), (36, -24, 78)), (9, 9, 9.5, 10)),
        STOMACH: within(_stomach(vary), room),
        PANCREAS: _pancreas(vary),
        DUODENUM: _duodenum(vary),
        GALLBLADDER: _gallbladder(vary),
        RIGHT_ADRENAL: _adrenal(vary, vary.at(-31, 2, 39, by_mm=1.5), side=-1),
        LEFT_ADRENAL: _adrenal(vary, vary.at(33, 0, 40, by_mm=1.5), side=1),
    }
    for kidney, adrenal in ((RIGHT_KIDNEY, RIGHT_ADRENAL), (LEFT_KIDNEY, LEFT_ADRENAL)):
        shapes[kidney] = within(without(shapes[kidney], shapes[adrenal], gap_mm=2), room)
    shapes[SPLEEN] = without(within(_spleen(vary), room), shapes[LEFT_KIDNEY], shapes[STOMACH], gap_mm=2.5)
    firm = (RIGHT_KIDNEY, RIGHT_ADRENAL, STOMACH, PANCREAS, DUODENUM, ESOPHAGUS)
    shapes[LIVER] = without(within(_liver(vary), room), *(shapes[i] for i in firm), gap_mm=1.5)
    # Only now, or the liver would grow into the sinus.
    shapes[RIGHT_KIDNEY] = without(shapes[RIGHT_KIDNEY], right_sinus)
    shapes[LEFT_KIDNEY] = without(shapes[LEFT_KIDNEY], left_sinus)
    return shapes


def organ_parts(vary: Vary, shapes: dict[int, Shape], tissue: Enhancement) -> list[Part]:
    """The organs and the vessels between them in the order of painting."""
    parts = _vessels(vary, tissue)
    parts += [Part(shapes[SPLEEN], tissue.spleen, SPLEEN)]
    for kidney in (RIGHT_KIDNEY, LEFT_KIDNEY):
        parts.append(Part(shapes[kidney], tissue.cortex, kidney, core=Core(8, tissue.medulla, rough=15)))
    parts += [Part(shapes[LIVER], tissue.liver, LIVER, rough=6)]
    parts += [Part(within(v, shapes[LIVER]), tissue.veins, LIVER) for v in _liver_vessels(vary)]
    parts += hollow(
        shapes[STOMACH],
        wall=tissue.gut_wall,
        wall_mm=vary.between(3, 5),
        content=vary.between(5, 70),
        gas_above_y=vary.between(-90, -62),
        label=STOMACH,
        rough=25,
    )
    parts += [Part(shapes[PANCREAS], tissue.pancreas, PANCREAS, rough=14)]
    parts += hollow(
        shapes[DUODENUM],
        wall=tissue.gut_wall,
        wall_mm=3,
        content=vary.between(5, 60),
        gas_above_y=vary.between(-75, -56),
        label=DUODENUM,
        rough=15,
    )
    return [
        *parts,
        Part(shapes[GALLBLADDER], vary.between(2, 28), GALLBLADDER),
        Part(shapes[CAVA], tissue.veins, CAVA),
        Part(shapes[AORTA], tissue.aorta, AORTA),
        *hollow(
            shapes[ESOPHAGUS],
            wall=tissue.gut_wall - 10,
            wall_mm=5,
            content=10,
            gas_above_y=-FAR if vary.chance(0.5) else -28,
            label=ESOPHAGUS,
        ),
        Part(shapes[RIGHT_ADRENAL], tissue.adrenal, RIGHT_ADRENAL),
        Part(shapes[LEFT_ADRENAL], tissue.adrenal, LEFT_ADRENAL),
    ]


def _liver(vary: Vary) -> Shape:
    size = vary.about(1, share=0.04)
    right = ellipsoid(vary.at(-72, -20, 34), (66 * size, 78 * size, 80 * size), turn=(0, 8, 0))
    left = ellipsoid(
        vary.at(-8, -68, 60, by_mm=4),
        (vary.about(56, share=0.1), 34 * size, vary.about(30, share=0.1)),
        turn=(0, 10, 0),
    )
    dome = ellipsoid(vary.at(-60, -30, 62), (60, 64, 46))
    caudate = ellipsoid((-22, -40, 58), (16, 20, 24))
    hollow_below = ellipsoid(vary.at(27, -20, -46), (86, 76, 90))
    behind = tube(((-8, 20, -120), (-11, 19, 40), (-6, 14, 120)), (36, 36, 30))
    return without(blended(right, dome, left, caudate, over_mm=18), hollow_below, behind)


def _kidney(vary: Vary, centre: Vector, *, side: int) -> tuple[Shape, Shape]:
    """A kidney without its hollow, and the hollow: the sinus, full of fat."""
    length, width = vary.about(54), vary.about(27)
    turn = (vary.between(4, 12), side * vary.between(6, 14), side * vary.between(-25, -10))
    body = ellipsoid(centre, (width, width * 0.92, length), turn=turn)
    x, y, z = centre
    return body, ellipsoid((x - side * 17, y - 8, z), (17, 9, 20), turn=turn)


def _spleen(vary: Vary) -> Shape:
    long, turn = vary.about(53, share=0.1), (vary.between(15, 30), 0, vary.between(-20, 0))
    x, y, z = vary.at(105, 6, 42, by_mm=3)
    body = ellipsoid((x, y, z), (vary.about(28), vary.about(50), long), turn=turn)
    return without(body, ellipsoid((x - 36, y - 18, z), (28, 40, 60)))


def _stomach(vary: Vary) -> Shape:
    full = vary.between(0.8, 1.12)
    radii = (27 * full, 31 * full, 27 * full, 23 * full, 18 * full, 10)
    sag = vary.between(-14, 8)
    knots = (
        vary.at(56, 0, 80, by_mm=2),
        vary.at(62, -18, 64),
        vary.at(66, -56, 34),
        vary.at(46, -78, 4 + sag),
        vary.at(4, -80, -8 + sag),
        (-30, -63, -4),
    )
    return blended(tube(knots, radii), tube(((36, -24, 78), (56, -14, 70)), (10, 14)), over_mm=10)


def _pancreas(vary: Vary) -> Shape:
    thick = vary.between(0.8, 1.15)
    head, neck = vary.at(-27, -42, -22, by_mm=2), vary.at(-8, -50, -2, by_mm=2)
    gland = tube(
        (head, neck, vary.at(24, -45, 16), vary.at(48, -31, 27), vary.at(74, -16, 34, by_mm=4)),
        (15 * thick, 10 * thick, 11.5 * thick, 11 * thick, 8.5 * thick),
    )
    uncinate = ellipsoid((head[0] + 9, head[1] + 6, head[2] - 10), (13, 8, 12))
    return blended(gland, uncinate, over_mm=8)


def _duodenum(vary: Vary) -> Shape:
    knots = (
        (-30, -63, -4),
        vary.at(-43, -56, 3, by_mm=2),
        vary.at(-53, -38, -18),
        vary.at(-50, -34, -50),
        vary.at(-30, -36, -69),
        vary.at(2, -41, -71, by_mm=2),
        vary.at(28, -42, -56),
        vary.at(32, -50, -36),
    )
    wide = vary.between(0.85, 1.15)
    return tube(knots, [wide * r for r in (10, 13, 13, 13, 12, 10.5, 11, 10)])


def _gallbladder(vary: Vary) -> Shape:
    full = vary.between(0.75, 1.3)
    return tube(
        (vary.at(-66, -82, -6), vary.at(-57, -72, 6), (-44, -58, 20)),
        (15 * full, 14 * full, 4),
    )


def _adrenal(vary: Vary, centre: Vector, *, side: int) -> Shape:
    """A ridge in front and two thin limbs that open to the back: an inverted V on an axial slice."""
    x, y, z = centre
    thin, deep, high = vary.between(2.5, 3.0), vary.about(12), vary.about(15)
    spread = vary.between(18, 28)
    limbs = [
        slab((x + side * turn * 0.17, y, z), (thin, deep, high), turn=(12, 0, side * turn))
        for turn in (-4.0, spread)
    ]
    ridge = tube(((x, y - deep + 3, z - high * 0.8), (x, y - deep + 3, z + high * 0.7)), (3.6, 3.2))
    return blended(*limbs, ridge, over_mm=3)


def _aorta(vary: Vary) -> Shape:
    width = vary.about(10, share=0.12)
    stem = tube(
        (
            (22, 4, 200),
            (16, -10, 90),
            vary.at(8, -19, 30, by_mm=1.5),
            vary.at(7, -20, -50, by_mm=2),
            (4, -20, -112),
        ),
        (width * 1.15, width * 1.1, width, width * 0.9, width * 0.85),
    )
    iliac = [tube(((4, -20, -110), (s * 26, -12, -165)), (6.5, 5.5)) for s in (-1, 1)]
    return blended(stem, *iliac, over_mm=4)


def _vena_cava(vary: Vary) -> Shape:
    width = vary.about(11.5, share=0.1)
    return tube(
        (
            (-10, -14, -160),
            (-17, -17, -110),
            vary.at(-20, -19, -30, by_mm=2),
            (-23, -26, 35),
            (-21, -38, 80),
            (-17, -44, 98),
        ),
        (width, width, width, width, width * 1.1, width),
        flat=vary.between(0.7, 0.95),
    )


def _vessels(vary: Vary, tissue: Enhancement) -> list[Part]:
    veins = [
        tube(((-8, -43, -90), (-7, -42, -10), (-14, -44, 8), (-36, -46, 34)), (6, 6.5, 7, 6)),
        tube(((-7, -41, 0), (26, -33, 15), (60, -12, 34), (84, 0, 38)), (5.5, 5, 4.5, 3.5)),
        tube(((-20, -18, -20), (-42, 4, -22)), (5, 4)),
        tube(((-18, -20, -10), (5, -34, -10), (42, 4, -9)), (4, 4.5, 4.5)),
    ]
    arteries = [
        tube(((8, -26, 6), (6, -38, -20), (4, -44, -90)), (4.5, 4, 3.5)),
        tube(((9, -26, 24), (8, -40, 26), (-20, -46, 30)), (4.5, 4, 3)),
    ]
    crura = [
        tube(((-12, -10, 80), (-13, -5, 40), (-12, -4, -25)), (6, 6, 3)),
        tube(((26, -6, 85), (21, -4, 40), (17, -3, -5)), (5, 5, 3)),
    ]
    return [
        *(Part(crus, 60 + vary.between(-4, 8)) for crus in crura),
        *(Part(vein, tissue.veins) for vein in veins),
        *(Part(artery, tissue.aorta) for artery in arteries),
    ]


def _liver_vessels(vary: Vary) -> list[Shape]:
    veins = [
        tube(((-22, -42, 88), vary.at(x, y, z, by_mm=6)), (5.5, 2.5))
        for x, y, z in ((-95, 5, 55), (-70, -60, 45), (5, -75, 62))
    ]
    portal = [
        tube(((-36, -46, 34), (-52, -38, 42), vary.at(x, y, z, by_mm=6)), (6.5, 6, 2.5))
        for x, y, z in ((-110, -30, 20), (-90, 10, 20), (-85, -60, 70))
    ]
    return veins + portal
