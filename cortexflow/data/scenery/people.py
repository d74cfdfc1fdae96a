"""Faces, bodies and hands."""

import math

from cortexflow.data.scenery.pen import BLACK, COLOURS, WHITE, Look, Pen, Real, Tone, mix, ray, shade

IRIS: tuple[Tone, ...] = ((0.3, 0.2, 0.1), (0.25, 0.45, 0.7), (0.25, 0.5, 0.3), (0.12, 0.09, 0.08))


def face(pen: Pen, look: Look) -> None:
    """Head and neck; hair in the main colour."""
    wide, skin, hair = look.between(0, 0.52, 0.66), look.skin, look.main
    style = look.pick(1, 4)  # short, long, curly, bald
    if style == 1:
        pen.smooth(shade(hair, 0.75), (0, -0.95), (0.75, -0.5), (0.82, 0.3), (0.7, 0.9), (-0.7, 0.9), (-0.82, 0.3), (-0.75, -0.5))
    if style == 2:
        for turn in range(12):
            x, y = math.cos(turn * 0.5 + 2.9), math.sin(turn * 0.5 + 2.9)
            pen.ellipse(shade(hair, 0.8 + 0.02 * turn), 0.68 * x, -0.15 + 0.7 * y, 0.27, 0.27)
    pen.polygon(shade(skin, 0.72), (-0.26, 0.5), (0.26, 0.5), (0.32, 1), (-0.32, 1))
    for side in (-1, 1):
        pen.ellipse(shade(skin, 0.85), side * wide, 0.02, 0.1, 0.17)
    jaw = look.between(2, 0.34, 0.5)
    pen.smooth(skin, (0, -0.82), (wide * 0.8, -0.6), (wide, 0), (jaw, 0.55), (0, 0.8), (-jaw, 0.55), (-wide, 0), (-wide * 0.8, -0.6))
    _beard(pen, look, wide, jaw)
    _eyes(pen, look)
    _nose_and_mouth(pen, look)
    if style != 3:
        _fringe(pen, hair, wide, look.between(3, -0.55, -0.3), look.between(4, -0.35, 0.35))


def _beard(pen: Pen, look: Look, wide: Real, jaw: Real) -> None:
    if look.dials[5] > 0.75:
        low = [(wide * 0.97, 0.12), (jaw, 0.57), (0, 0.86), (-jaw, 0.57), (-wide * 0.97, 0.12)]
        pen.smooth(shade(look.main, 0.85), *low, (-0.25, 0.3), (0, 0.24), (0.25, 0.3))


def _eyes(pen: Pen, look: Look) -> None:
    apart, open_ = look.between(6, 0.24, 0.31), look.between(7, 0.07, 0.12)
    gaze = look.between(8, -0.05, 0.05)
    brow = shade(look.main, 0.6)
    tilt = look.between(9, -0.09, 0.09)
    for side in (-1, 1):
        x = side * apart
        pen.ellipse(shade(look.skin, 0.82), x, -0.1, 0.18, open_ + 0.05)
        pen.ellipse(WHITE, x, -0.1, 0.15, open_)
        pen.ellipse(IRIS[look.pick(10, 4)], x + gaze, -0.1, 0.075, min(0.085, open_))
        pen.ellipse(BLACK, x + gaze, -0.1, 0.035, 0.04)
        pen.ellipse((1, 1, 1), x + gaze + 0.03, -0.13, 0.017, 0.017)
        pen.limb(brow, (x - side * 0.15, -0.28 - tilt), (x + side * 0.16, -0.28 + tilt), 0.045, 0.025)
        if look.dials[11] > 0.8:
            pen.arc(BLACK, 0.022, x, -0.1, 0.2, 0, 2 * math.pi)
    if look.dials[11] > 0.8:
        pen.path(BLACK, 0.022, (-0.07, -0.12), (0.07, -0.12))


def _nose_and_mouth(pen: Pen, look: Look) -> None:
    dark, lips = shade(look.skin, 0.78), mix(look.skin, (0.75, 0.15, 0.2), 0.6)
    nose = look.between(12, 0.07, 0.13)
    pen.smooth(shade(look.skin, 0.88), (0.02, -0.12), (nose, 0.2), (0, 0.26), (-nose, 0.2), (-0.02, -0.12))
    for side in (-1, 1):
        pen.ellipse(dark, side * nose * 0.6, 0.22, 0.03, 0.022)
    smile, open_, wide = look.between(13, -0.08, 0.14), max(0.0, look.between(14, -0.12, 0.16)), look.between(15, 0.18, 0.3)
    corner, middle = 0.47 - smile / 2, 0.47 + smile / 2
    pen.smooth(lips, (-wide, corner), (0, middle - 0.07), (wide, corner), (0, middle + 0.07 + open_))
    if open_ > 0.02:
        pen.smooth((0.35, 0.05, 0.07), (-wide * 0.8, corner + 0.01), (0, middle - 0.02), (wide * 0.8, corner + 0.01), (0, middle + open_))
        pen.limb(WHITE, (-wide * 0.45, middle), (wide * 0.45, middle), 0.03)
    else:
        pen.path(shade(lips, 0.6), 0.014, (-wide, corner), (0, middle), (wide, corner))


def _fringe(pen: Pen, hair: Tone, wide: Real, line: Real, parting: Real) -> None:
    outer = [(-wide - 0.05, -0.05), (-wide - 0.03, -0.5), (-0.4, -0.9), (0, -1), (0.4, -0.9), (wide + 0.03, -0.5), (wide + 0.05, -0.05)]
    pen.smooth(hair, *outer, (wide * 0.85, line), (parting, line - 0.18), (-wide * 0.85, line))
    pen.limb(shade(hair, 1.2), (parting, line - 0.28), (parting * 0.5 + 0.25, -0.78), 0.02, 0.05)


def body(pen: Pen, look: Look) -> None:
    """A standing, walking or waving person from head to feet; shirt in the main colour, hair covers the face's upper half."""
    shirt, trousers, skin = look.main, look.second, look.skin
    hair = COLOURS[("brown", "black", "yellow", "gray")[look.pick(0, 4)]]
    stride, broad = look.between(1, 2, 32), look.between(2, 0.17, 0.24)
    for side in (-1, 1):
        bend = look.between(3, 0, 25) if side > 0 else 0
        knee = ray(side * 0.09, 0.12, side * stride, 0.42)
        foot = ray(*knee, side * stride - bend, 0.38)
        pen.limb(shade(trousers, 0.8 if side < 0 else 1), (side * 0.09, 0.1), knee, 0.115, 0.085)
        pen.limb(shade(trousers, 0.75 if side < 0 else 0.95), knee, foot, 0.085, 0.06)
        pen.limb(BLACK, foot, (foot[0] + 0.12, foot[1] + 0.03), 0.06)
    _arm(pen, look, -1, broad, 4)
    pen.limb(shade(skin, 0.8), (0, -0.62), (0, -0.5), 0.06)
    pen.smooth(
        shirt, (-broad, -0.48), (0, -0.56), (broad, -0.48), (broad * 0.8, -0.1), (broad * 0.85, 0.18), (-broad * 0.85, 0.18), (-broad * 0.8, -0.1)
    )
    pen.box(shade(trousers, 0.6), -broad * 0.82, 0.12, broad * 0.82, 0.19)
    _arm(pen, look, 1, broad, 6)
    pen.ellipse(skin, 0, -0.79, 0.125, 0.165)
    pen.smooth(hair, (-0.14, -0.76), (-0.13, -0.93), (0, -1), (0.13, -0.93), (0.14, -0.76), (0.06, -0.87), (-0.06, -0.87))
    if look.dials[8] > 0.5:
        for side in (-1, 1):
            pen.limb(hair, (side * 0.13, -0.88), (side * 0.13, -0.58), 0.045)


def _arm(pen: Pen, look: Look, side: int, broad: Real, dial: int) -> None:
    shoulder = (side * (broad - 0.02), -0.45)
    raised = look.between(dial, 8, 60) if look.dials[dial] < 0.7 else look.between(dial, 60, 150)
    elbow = ray(*shoulder, side * raised, 0.3)
    hand = ray(*elbow, side * (raised + look.between(dial + 1, -20, 70)), 0.27)
    pen.limb(look.skin, elbow, hand, 0.055, 0.042)
    pen.ellipse(look.skin, *hand, 0.06, 0.06)
    pen.limb(shade(look.main, 0.85), shoulder, elbow, 0.085, 0.068)


def hand(pen: Pen, look: Look) -> None:
    """An open or pointing hand, sleeve in the main colour."""
    skin, line = look.skin, shade(look.skin, 0.72)
    pen.polygon(look.main, (-0.38, 0.72), (0.38, 0.72), (0.42, 1), (-0.42, 1))
    pen.limb(skin, (0, 0.75), (0, 0.4), 0.27, 0.33)
    spread, kind = look.between(0, 4, 13), look.pick(1, 4)
    folded = ((), (), (2, 3), (1, 2, 3))[kind]
    for finger in range(4):
        root = (-0.33 + 0.21 * finger, -0.05 + 0.03 * abs(finger - 1.4))
        length = 0.14 if finger in folded else (0.72, 0.85, 0.8, 0.6)[finger] * look.between(2, 0.85, 1)
        tip = ray(*root, 180 - (finger - 1.5) * spread, length)
        pen.limb(line, root, tip, 0.12, 0.1)
        pen.limb(skin, root, tip, 0.1, 0.08)
        pen.ellipse(shade(skin, 1.35), *ray(*tip, 180, -0.02), 0.045, 0.05)
    pen.smooth(skin, (-0.42, -0.05), (0, -0.12), (0.4, 0), (0.42, 0.4), (0.3, 0.65), (-0.3, 0.65), (-0.44, 0.35))
    thumb = ray(0.4, 0.2, 180 - look.between(3, 25, 70), 0.52)
    pen.limb(skin, (0.28, 0.32), thumb, 0.16, 0.1)
    pen.path(line, 0.015, (-0.3, 0.15), (0.05, 0.1), (0.25, 0.25))
    pen.path(line, 0.015, (-0.25, 0.3), (0.1, 0.32))
