"""Tools, furniture, plants and other things."""

import math

from cortexflow.data.scenery.pen import BLACK, COLOURS, WHITE, Look, Pen, Tone, mix, shade

STEEL: Tone = (0.68, 0.7, 0.74)


def hammer(pen: Pen, look: Look) -> None:
    """Upright, the handle in the main colour."""
    pen.limb(look.main, (0, 0.93), (0, -0.5), 0.1, 0.075)
    pen.limb(shade(look.main, 0.7), (0, 0.92), (0, 0.5), 0.12, 0.11)
    pen.box(shade(STEEL, 0.75), -0.15, -0.78, 0.15, -0.42)
    pen.polygon(STEEL, (-0.15, -0.75), (-0.5, -0.75), (-0.5, -0.45), (-0.15, -0.45))
    pen.box(shade(STEEL, 0.7), -0.62, -0.82, -0.46, -0.38)
    if look.dials[0] < 0.6:
        pen.smooth(STEEL, (0.12, -0.77), (0.45, -0.75), (0.75, -0.4), (0.4, -0.52), (0.12, -0.45))
    else:
        pen.polygon(STEEL, (0.15, -0.77), (0.65, -0.64), (0.65, -0.56), (0.15, -0.43))


def scissors(pen: Pen, look: Look) -> None:
    """Open by an angle, handles in the main colour."""
    angle = look.between(0, 0.12, 0.42)
    for side in (-1, 1):
        c, s = math.cos(angle) * side, math.sin(angle) * side
        tip, grip = (1.0 * math.sin(angle) * side, -0.97 * abs(c)), (-0.42 * s - side * 0.16, 0.55)
        pen.polygon(shade(STEEL, 0.85 + 0.08 * side), (-side * 0.09, 0.1), tip, (side * 0.1, 0.02))
        pen.limb(shade(look.main, 0.9), (0, 0.05), grip, 0.08)
        pen.arc(look.main, 0.085, grip[0] - side * 0.1, 0.68, 0.22, 0, 2 * math.pi)
    pen.ellipse((0.3, 0.3, 0.32), 0, 0.05, 0.06, 0.06)


def key(pen: Pen, look: Look) -> None:
    """A ring, a shaft and teeth, in the main colour."""
    metal = look.main
    pen.arc(metal, 0.11, 0, -0.6, 0.27, 0, 2 * math.pi)
    pen.box(shade(metal, 0.9), -0.085, -0.28, 0.085, 0.95)
    for tooth in range(3):
        pen.box(shade(metal, 0.85), 0.05, 0.45 + 0.2 * tooth, 0.22 + 0.18 * look.dials[tooth], 0.57 + 0.2 * tooth)
    pen.box(shade(metal, 0.7), -0.14, -0.28, 0.14, -0.17)


def spoon(pen: Pen, look: Look) -> None:
    """Steel or wood, the bowl wide or narrow."""
    metal, wide = look.main, look.between(0, 0.24, 0.34)
    pen.limb(shade(metal, 0.85), (0, -0.2), (0, 0.9), 0.05, look.between(1, 0.06, 0.12))
    pen.ellipse(metal, 0, -0.56, wide, 0.41)
    pen.ellipse(shade(metal, 0.68), 0, -0.54, 0.73 * wide, 0.32)
    pen.ellipse(shade(metal, 1.6), -0.08, -0.68, 0.05, 0.1, 0.3)


def chair(pen: Pen, look: Look) -> None:
    """Three-quarter view: back, seat and four legs."""
    wood, dark = look.main, shade(look.main, 0.62)
    high = look.between(0, -0.95, -0.7)
    for x, y, tone in ((0.52, 0.75, 0.5), (-0.2, 0.72, 0.5)):
        pen.limb(shade(wood, tone), (x, 0.15), (x, y), 0.05)
    pen.limb(dark, (-0.5, high), (-0.5, 0.97), 0.055)
    pen.limb(wood, (0.22, high + 0.03), (0.25, 0.97), 0.055)
    if look.dials[1] > 0.5:
        pen.polygon(mix(wood, look.second, 0.3), (-0.5, high), (0.22, high + 0.05), (0.22, -0.1), (-0.5, -0.15))
    else:
        for row in (0.0, 0.28, 0.56):
            pen.limb(wood, (-0.5, high + row + 0.04), (0.22, high + row + 0.08), 0.06)
    pen.polygon(shade(wood, 1.15), (-0.58, 0.1), (0.25, 0.16), (0.62, 0.02), (-0.2, -0.05))
    pen.polygon(dark, (-0.58, 0.1), (0.25, 0.16), (0.25, 0.27), (-0.58, 0.21))
    pen.polygon(shade(wood, 0.5), (0.25, 0.16), (0.62, 0.02), (0.62, 0.12), (0.25, 0.27))


def lamp(pen: Pen, look: Look) -> None:
    """A table or floor lamp, its shade in the main colour."""
    low, narrow = look.between(0, -0.3, 0.05), look.between(1, 0.2, 0.4)
    pen.limb(BLACK, (0, low), (0, 0.88), 0.04)
    pen.ellipse(BLACK, 0, 0.9, 0.38, 0.09)
    if look.dials[2] > 0.5:
        pen.smooth(shade(look.second, 0.9), (0, low + 0.1), (0.22, 0.5), (0.12, 0.85), (-0.12, 0.85), (-0.22, 0.5))
    pen.ellipse((1, 0.95, 0.7), 0, low, 0.62, 0.1)
    pen.polygon(look.main, (-narrow, -0.97), (narrow, -0.97), (0.64, low), (-0.64, low))
    pen.polygon(shade(look.main, 1.45), (-0.3 * narrow, -0.97), (0.3 * narrow, -0.97), (0.25, low), (-0.25, low))


def cup(pen: Pen, look: Look) -> None:
    """A mug with a handle, coffee in it."""
    wide, foot = look.between(0, 0.52, 0.68), look.between(1, 0.35, 0.6)
    pen.arc(shade(look.main, 0.85), 0.09, wide * 0.9, 0.1, 0.33, -1.7, 1.75)
    pen.polygon(look.main, (-wide, -0.6), (wide, -0.6), (foot, 0.78), (-foot, 0.78))
    pen.ellipse(look.main, 0, 0.78, foot, 0.12)
    if look.dials[2] > 0.5:
        pen.polygon(look.second, (-wide * 0.94, -0.2), (wide * 0.94, -0.2), (wide * 0.86, 0.12), (-wide * 0.86, 0.12))
    pen.ellipse(shade(look.main, 1.3), 0, -0.6, wide, 0.2)
    pen.ellipse((0.25, 0.14, 0.07), 0, -0.57, wide * 0.86, 0.15)


def tree(pen: Pen, look: Look) -> None:
    """A leafy tree or a fir, leaves in the main colour."""
    bark: Tone = (0.36, 0.24, 0.14)
    pen.polygon(bark, (-0.12, 0.1), (0.12, 0.1), (0.18, 1), (-0.18, 1))
    if look.dials[0] < 0.4:
        for level in range(4):
            y, wide = -0.98 + 0.36 * level, 0.3 + 0.16 * level
            pen.polygon(shade(look.main, 0.75 + 0.08 * (3 - level)), (0, y), (wide, y + 0.58), (-wide, y + 0.58))
        return
    pen.limb(bark, (0, 0.35), (0.35, -0.1), 0.06, 0.03)
    for leaf in range(11):
        turn, away = leaf * 2.4 + 5 * look.dials[1], 0.5 * math.sqrt(leaf / 11)
        tone = shade(look.main, 0.7 + 0.06 * leaf)
        pen.ellipse(tone, away * 1.05 * math.cos(turn), -0.4 + away * math.sin(turn), 0.28 + 0.1 * look.dials[leaf], 0.28)


def flower(pen: Pen, look: Look) -> None:
    """Petals in the main colour on a stalk with leaves."""
    stalk: Tone = (0.22, 0.5, 0.18)
    lean = look.between(0, -0.12, 0.12)
    pen.path(stalk, 0.045, (0, 1), (lean / 2, 0.5), (lean, -0.3))
    pen.smooth(stalk, (0, 0.8), (0.35, 0.45), (0.62, 0.45), (0.4, 0.75))
    pen.smooth(shade(stalk, 0.85), (0, 0.65), (-0.3, 0.3), (-0.55, 0.28), (-0.35, 0.6))
    petals, long = 5 + look.pick(1, 4), look.between(2, 0.26, 0.36)
    for petal in range(petals):
        turn = 2 * math.pi * petal / petals + look.dials[3]
        tone = shade(look.main, 1 if petal % 2 else 0.86)
        pen.ellipse(tone, lean + 0.32 * math.cos(turn), -0.42 + 0.32 * math.sin(turn), long, 0.19, turn)
    pen.ellipse((0.85, 0.6, 0.12) if sum(look.main) < 2.1 or look.main[2] > 0.6 else (0.4, 0.22, 0.1), lean, -0.42, 0.19, 0.19)


def ball(pen: Pen, look: Look) -> None:
    """A beach ball, a football or a basketball."""
    kind = look.pick(0, 3)
    pen.ellipse(look.main, 0, 0, 0.95, 0.95)
    if kind == 0:
        for sector in range(3):
            turn = sector * 2 * math.pi / 3 + look.dials[1]
            first, last = (turn, turn + math.pi / 3)
            points = [(0.95 * math.cos(first + k * (last - first) / 8), 0.95 * math.sin(first + k * (last - first) / 8)) for k in range(9)]
            pen.polygon(WHITE, (-0.15, -0.2), *points)
        pen.ellipse(look.second, -0.15, -0.2, 0.14, 0.14)
    elif kind == 1:
        for spot in range(6):
            turn, away = spot * 2 * math.pi / 5 + look.dials[1], 0.68 if spot < 5 else 0.0
            pen.ellipse(shade(look.main, 0.35), away * math.cos(turn), away * math.sin(turn), 0.25, 0.25 if spot == 5 else 0.2)
    else:
        line = shade(look.main, 0.35)
        pen.arc(line, 0.025, -1.15, 0, 0.95, -0.75, 0.75)
        pen.arc(line, 0.025, 1.15, 0, 0.95, math.pi - 0.75, math.pi + 0.75)
        pen.limb(line, (-0.93, 0), (0.93, 0), 0.025)
        pen.limb(line, (0, -0.93), (0, 0.93), 0.025)


def clock(pen: Pen, look: Look) -> None:
    """A wall clock; the hands tell any time."""
    pen.ellipse(look.main, 0, 0, 0.97, 0.97)
    pen.ellipse((0.96, 0.95, 0.9), 0, 0, 0.8, 0.8)
    for hour in range(12):
        c, s = math.cos(hour * math.pi / 6), math.sin(hour * math.pi / 6)
        pen.limb(BLACK, (0.6 * c, 0.6 * s), (0.71 * c, 0.71 * s), 0.04 if hour % 3 == 0 else 0.022)
    for dial, long, wide in ((0, 0.38, 0.055), (1, 0.58, 0.04)):
        turn = 2 * math.pi * look.dials[dial]
        pen.limb(BLACK, (0, 0), (long * math.cos(turn), long * math.sin(turn)), wide)
    pen.ellipse(COLOURS["red"], 0, 0, 0.06, 0.06)


def umbrella(pen: Pen, look: Look) -> None:
    """Open, in panels of two tones."""
    pen.limb((0.35, 0.22, 0.12), (0, -0.9), (0, 0.8), 0.03)
    pen.arc((0.35, 0.22, 0.12), 0.04, 0.14, 0.8, 0.14, 0, math.pi)
    dome = [(0.97 * math.cos(t), 0.05 + 0.85 * math.sin(t)) for t in (math.pi + k * math.pi / 16 for k in range(17))]
    scallops = [(0.97 - 0.485 * k / 4, 0.05 - 0.07 * math.sin(math.pi * (k % 4) / 4)) for k in range(17)]
    pen.polygon(look.main, *dome, *scallops)
    for left, right in ((-0.485, 0.0), (0.485, 0.97)):
        pen.smooth(
            shade(look.main, 0.72 if look.dials[0] < 0.5 else 1.5),
            (0, -0.8),
            (left * 0.7, -0.5),
            (left, 0.03),
            ((left + right) / 2, -0.05),
            (right, 0.03),
            (right * 0.7, -0.5),
        )
