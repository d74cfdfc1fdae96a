"""Cars, buses, boats, planes and bicycles."""

import math

from cortexflow.data.scenery.pen import BLACK, WHITE, Look, Pen, Real, Tone, shade

GLASS: Tone = (0.55, 0.7, 0.8)
TYRE: Tone = (0.1, 0.1, 0.1)


def _wheel(pen: Pen, x: Real, y: Real, radius: Real) -> None:
    pen.ellipse(TYRE, x, y, radius, radius)
    pen.ellipse((0.7, 0.7, 0.72), x, y, 0.58 * radius, 0.58 * radius)
    pen.ellipse((0.3, 0.3, 0.32), x, y, 0.2 * radius, 0.2 * radius)


def car(pen: Pen, look: Look) -> None:
    """From the side; the cabin's form varies."""
    paint, back, front = look.main, look.between(0, -0.78, -0.5), look.between(1, 0.42, 0.62)
    roof = look.between(2, -0.48, -0.36)
    pen.smooth(shade(paint, 0.92), (back, 0), (back + 0.22, roof), (0, roof - 0.07), (0.2, roof), (front, 0.05), (0, 0.15))
    pen.polygon(GLASS, (back + 0.14, -0.04), (back + 0.27, roof + 0.07), (-0.1, roof + 0.02), (-0.1, -0.04))
    pen.polygon(GLASS, (-0.03, -0.04), (-0.03, roof + 0.02), (0.18, roof + 0.07), (front - 0.16, -0.02))
    body = [(-0.96, 0.05), (-0.75, -0.06), (0.55, -0.04), (0.9, 0.08), (0.98, 0.28), (0.93, 0.42), (-0.93, 0.42), (-0.98, 0.25)]
    pen.smooth(paint, *body)
    pen.box(shade(paint, 0.6), -0.93, 0.33, 0.93, 0.42)
    pen.path(shade(paint, 0.6), 0.012, (-0.07, -0.02), (-0.07, 0.33))
    pen.limb(shade(paint, 0.5), (-0.25, 0.1), (-0.16, 0.1), 0.02)
    pen.ellipse((1, 0.95, 0.7), 0.88, 0.16, 0.07, 0.06)
    pen.ellipse((0.75, 0.1, 0.1), -0.93, 0.14, 0.05, 0.06)
    for x in (-0.55, 0.55):
        pen.ellipse(shade(paint, 0.35), x, 0.4, 0.25, 0.25)
        _wheel(pen, x, 0.42, 0.21)


def bus(pen: Pen, look: Look) -> None:
    """A long box with a row of windows."""
    paint = look.main
    high = look.between(0, -0.6, -0.45)
    pen.box(shade(paint, 0.8), -0.98, high, 0.98, 0.5)
    pen.box(paint, -0.96, high + 0.05, 0.96, 0.46)
    pen.box(shade(look.second, 1.1), -0.96, 0.16, 0.96, 0.26)
    windows = 4 + look.pick(1, 3)
    for place in range(windows):
        left = -0.9 + 1.5 * place / windows
        pen.box(GLASS, left, high + 0.14, left + 1.5 / windows - 0.06, 0.05)
        pen.polygon(shade(GLASS, 1.4), (left, high + 0.14), (left + 0.12, high + 0.14), (left, 0.0))
    pen.box(shade(GLASS, 0.8), 0.64, high + 0.14, 0.8, 0.46)
    pen.box(GLASS, 0.84, high + 0.12, 0.96, 0.1)
    pen.ellipse((1, 0.95, 0.7), 0.93, 0.36, 0.05, 0.05)
    for x in (-0.58, 0.5):
        _wheel(pen, x, 0.5, 0.18)


def boat(pen: Pen, look: Look) -> None:
    """A sailing boat or a steamer."""
    if look.dials[0] > 0.4:
        pen.box((0.4, 0.28, 0.16), -0.05, -0.98, 0.01, 0.5)
        belly = look.between(1, 0.6, 0.9)
        pen.smooth(WHITE if look.dials[2] < 0.6 else shade(look.second, 1.3), (0.04, -0.92), (belly * 0.6, -0.4), (belly, 0.3), (0.04, 0.34))
        pen.polygon(shade(look.main, 1.35), (-0.08, -0.75), (-0.08, 0.34), (-0.68, 0.34))
    else:
        pen.box(WHITE, -0.55, -0.05, 0.45, 0.5)
        pen.box(shade(WHITE, 0.85), -0.35, -0.35, 0.25, -0.03)
        pen.box(look.second, -0.2, -0.85, 0.05, -0.34)
        pen.box(BLACK, -0.2, -0.85, 0.05, -0.72)
        for x in (-0.4, -0.15, 0.1, 0.32):
            pen.ellipse(GLASS, x, 0.2, 0.07, 0.07)
    pen.smooth(look.main, (-0.95, 0.42), (0, 0.47), (1, 0.38), (0.72, 0.85), (0.3, 0.95), (-0.5, 0.95), (-0.78, 0.8))
    pen.path(WHITE, 0.025, (-0.82, 0.55), (0, 0.58), (0.85, 0.52))


def plane(pen: Pen, look: Look) -> None:
    """An airliner from the side, wings in perspective."""
    paint = look.main
    pen.polygon(shade(paint, 0.6), (0.05, -0.05), (-0.35, -0.55), (-0.5, -0.55), (-0.3, -0.05))
    pen.polygon(look.second, (-0.62, -0.05), (-0.98, -0.62), (-0.78, -0.62), (-0.4, -0.05))
    pen.smooth(paint, (0.98, 0.05), (0.75, -0.14), (0.2, -0.19), (-0.6, -0.16), (-0.98, -0.06), (-0.6, 0.16), (0.2, 0.21), (0.75, 0.19))
    pen.smooth(shade(paint, 0.75), (0.9, 0.13), (-0.85, 0.02), (-0.6, 0.16), (0.2, 0.21), (0.75, 0.19))
    for window in range(8):
        pen.ellipse((0.25, 0.35, 0.45), 0.52 - 0.14 * window, -0.04, 0.032, 0.042)
    pen.polygon((0.2, 0.3, 0.4), (0.72, -0.1), (0.84, -0.06), (0.9, 0.0), (0.74, 0.0))
    reach = look.between(0, 0.6, 0.8)
    pen.polygon(shade(paint, 0.82), (0.22, 0.08), (-0.35, reach), (-0.55, reach), (-0.25, 0.08))
    pen.limb((0.4, 0.4, 0.43), (-0.02, 0.36), (0.14, 0.36), 0.085)
    pen.polygon(shade(look.second, 0.75), (-0.62, 0.02), (-0.9, 0.24), (-0.99, 0.24), (-0.85, 0.0))


def bicycle(pen: Pen, look: Look) -> None:
    """Two wheels, frame, saddle and handlebar."""
    for x in (-0.57, 0.57):
        pen.arc(TYRE, 0.05, x, 0.45, 0.4, 0, 2 * math.pi)
        for spoke in range(4):
            turn = spoke * math.pi / 4 + look.dials[0]
            c, s = 0.38 * math.cos(turn), 0.38 * math.sin(turn)
            pen.limb((0.6, 0.6, 0.62), (x - c, 0.45 - s), (x + c, 0.45 + s), 0.01)
    saddle = look.between(1, -0.45, -0.3)
    pen.path(look.main, 0.045, (-0.57, 0.45), (-0.05, 0.45), (0.42, -0.15), (-0.2, -0.15), (-0.57, 0.45))
    pen.path(look.main, 0.045, (-0.05, 0.45), (-0.25, saddle))
    pen.path(look.main, 0.045, (0.57, 0.45), (0.38, -0.4))
    pen.path(BLACK, 0.045, (0.22, -0.42), (0.42, -0.45), (0.52, -0.3))
    pen.limb(BLACK, (-0.42, saddle - 0.02), (-0.1, saddle), 0.08, 0.05)
    pen.ellipse((0.4, 0.4, 0.4), -0.05, 0.45, 0.11, 0.11)
