"""Cats, dogs, fish, birds and horses."""

from cortexflow.data.scenery.pen import BLACK, WHITE, Look, Pen, mix, ray, shade


def cat(pen: Pen, look: Look) -> None:
    """Sitting, pointed ears, whiskers, a long tail; often striped."""
    fur, belly = look.main, mix(look.main, WHITE, 0.55)
    swing = look.between(0, 0.15, 0.5)
    pen.path(shade(fur, 0.8), 0.085, (0.35, 0.85), (0.8, 0.75), (0.88, 0.75 - swing), (0.72, 0.45 - swing))
    pen.smooth(fur, (0, -0.2), (0.35, 0.1), (0.55, 0.75), (0.4, 0.98), (-0.4, 0.98), (-0.5, 0.7), (-0.33, 0.1))
    pen.ellipse(belly, -0.02, 0.45, 0.2, 0.38)
    if look.dials[1] > 0.4:
        for row in range(3):
            for side in (-1, 1):
                pen.limb(shade(fur, 0.55), (side * (0.33 + 0.06 * row), 0.2 + 0.2 * row), (side * 0.2, 0.27 + 0.2 * row), 0.035, 0.01)
    for side in (-1, 1):
        pen.limb(shade(fur, 0.92), (side * 0.17, 0.4), (side * 0.17, 0.92), 0.1, 0.09)
        pen.ellipse(belly, side * 0.18, 0.94, 0.13, 0.07)
        pen.polygon(fur, (side * 0.08, -0.68), (side * 0.42, -1), (side * 0.46, -0.42))
        pen.polygon((0.85, 0.55, 0.55), (side * 0.2, -0.68), (side * 0.38, -0.87), (side * 0.39, -0.55))
    pen.ellipse(fur, 0, -0.4, 0.47, 0.38)
    pen.ellipse(belly, 0, -0.25, 0.24, 0.17)
    for side in (-1, 1):
        pen.ellipse((0.75, 0.85, 0.25) if look.dials[2] < 0.6 else (0.4, 0.7, 0.85), side * 0.19, -0.45, 0.105, 0.1)
        pen.ellipse(BLACK, side * 0.19, -0.45, 0.035, 0.09)
        for whisker in (-0.06, 0.04):
            pen.limb(shade(fur, 1.8), (side * 0.15, -0.24), (side * 0.62, -0.24 + whisker * 2), 0.012, 0.006)
    pen.polygon((0.8, 0.4, 0.45), (-0.06, -0.32), (0.06, -0.32), (0, -0.24))


def dog(pen: Pen, look: Look) -> None:
    """In profile on four legs, hanging ear, long muzzle, tail up."""
    fur, dark = look.main, shade(look.main, 0.65)
    step = look.between(0, 0, 22)
    for x, side, tone in ((-0.5, 1, 0.7), (0.42, -1, 0.7), (-0.6, -1, 1.0), (0.3, 1, 1.0)):
        knee = ray(x, 0.3, side * step, 0.35)
        pen.limb(shade(fur, tone), (x, 0.2), knee, 0.13, 0.085)
        pen.limb(shade(fur, tone), knee, (knee[0], 0.92), 0.08, 0.07)
        pen.ellipse(shade(fur, tone), knee[0] + 0.05, 0.93, 0.11, 0.06)
    pen.path(fur, 0.06, (-0.68, 0.0), (-0.88, -0.2), (-0.9, look.between(1, -0.6, -0.25)))
    pen.smooth(fur, (-0.72, 0), (-0.5, -0.16), (0.1, -0.12), (0.45, -0.3), (0.55, 0.1), (0.4, 0.38), (-0.1, 0.27), (-0.6, 0.36))
    if look.dials[2] > 0.5:
        pen.ellipse(dark, -0.15, 0.02, 0.25, 0.14)
    pen.limb(fur, (0.38, -0.05), (0.5, -0.5), 0.22, 0.19)
    pen.box((0.75, 0.15, 0.15), 0.3, -0.27, 0.64, -0.2)
    pen.ellipse(fur, 0.52, -0.55, 0.28, 0.25)
    pen.limb(mix(fur, WHITE, 0.25), (0.62, -0.47), (0.9, -0.42), 0.16, 0.11)
    pen.ellipse(BLACK, 0.98, -0.48, 0.07, 0.055)
    pen.path(BLACK, 0.015, (0.95, -0.37), (0.72, -0.35))
    pen.ellipse(BLACK, 0.6, -0.6, 0.045, 0.05)
    pen.smooth(dark, (0.38, -0.76), (0.5, -0.6), (0.42, look.between(3, -0.3, -0.1)), (0.26, -0.3), (0.27, -0.6))


def fish(pen: Pen, look: Look) -> None:
    """In profile, with fins, stripes and scales."""
    skin, fin = look.main, mix(look.main, look.second, 0.5)
    high = look.between(0, 0.36, 0.58)
    pen.smooth(fin, (-0.5, 0), (-0.98, -0.5), (-0.82, 0), (-0.98, 0.5))
    pen.smooth(fin, (-0.3, -high * 0.7), (0, -high - 0.32), (0.35, -high * 0.75))
    pen.smooth(fin, (-0.15, high * 0.75), (-0.2, high + 0.22), (0.15, high * 0.85))
    pen.smooth(
        skin, (0.95, 0), (0.6, -high * 0.75), (0.1, -high), (-0.4, -high * 0.55), (-0.68, 0), (-0.4, high * 0.55), (0.1, high), (0.6, high * 0.75)
    )
    if look.dials[1] > 0.5:
        for x in (-0.35, 0, 0.3):
            reach = high * (0.9 - 0.9 * abs(x - 0.1))
            pen.limb(look.second, (x, -reach), (x, reach), 0.07)
    else:
        for row in range(3):
            for column in range(4):
                pen.arc(shade(skin, 0.72), 0.015, -0.35 + 0.2 * column, (row - 1) * high * 0.4, 0.1, -1.3, 1.3)
    pen.smooth(fin, (0.25, 0.1), (-0.1, 0.02), (-0.12, 0.3))
    pen.arc(shade(skin, 0.6), 0.02, 0.25, 0, 0.33, -0.9, 0.9)
    pen.ellipse(WHITE, 0.7, -0.12, 0.11, 0.11)
    pen.ellipse(BLACK, 0.72, -0.12, 0.055, 0.055)
    pen.path(shade(skin, 0.4), 0.018, (0.92, 0.08), (0.76, 0.14))


def bird(pen: Pen, look: Look) -> None:
    """Perched, or with wings spread; beak and tail."""
    plume, wing = look.main, shade(look.main, 0.68)
    pen.polygon(wing, (-0.45, 0.12), (-1, 0.3), (-0.95, 0.52), (-0.4, 0.4))
    for x in (0.02, 0.2):
        pen.path((0.85, 0.55, 0.15), 0.025, (x, 0.5), (x + 0.02, 0.92), (x + 0.16, 0.96))
        pen.path((0.85, 0.55, 0.15), 0.025, (x + 0.02, 0.92), (x - 0.12, 0.96))
    if look.dials[0] > 0.5:
        pen.smooth(shade(wing, 0.8), (0.15, 0), (0.1, -0.8), (-0.15, -1), (-0.45, -0.75), (-0.4, 0.1))
    pen.smooth(plume, (0.55, -0.35), (0.6, 0.1), (0.3, 0.55), (-0.15, 0.6), (-0.6, 0.3), (-0.25, 0.0), (0.2, -0.3))
    pen.smooth(mix(plume, WHITE, 0.6), (0.56, -0.05), (0.5, 0.3), (0.2, 0.55), (0.15, 0.3))
    pen.ellipse(plume, 0.48, -0.45, 0.27, 0.26)
    pen.polygon((0.95, 0.65, 0.15), (0.7, -0.55), (1, -0.4), (0.7, -0.32))
    pen.ellipse(WHITE, 0.55, -0.5, 0.08, 0.08)
    pen.ellipse(BLACK, 0.57, -0.5, 0.05, 0.05)
    if look.dials[0] > 0.5:
        pen.smooth(wing, (0.2, 0.05), (-0.2, -0.75), (-0.6, -0.95), (-0.75, -0.6), (-0.45, 0.2))
    else:
        pen.smooth(wing, (0.25, 0), (0.1, 0.4), (-0.6, 0.38), (-0.3, 0.08))
        pen.path(shade(wing, 0.7), 0.02, (0.05, 0.25), (-0.4, 0.32))


def horse(pen: Pen, look: Look) -> None:
    """In profile, long legs and neck, mane and tail."""
    coat, mane = look.main, shade(look.second, 0.5)
    step = look.between(0, 4, 26)
    pen.path(mane, 0.07, (-0.62, -0.15), (-0.85, 0.05), (-0.88, 0.5))
    for x, side, tone in ((-0.42, 1, 0.7), (0.25, -1, 0.7), (-0.52, -1, 1.0), (0.3, 1, 1.0)):
        knee = ray(x, 0.2, side * step, 0.36)
        pen.limb(shade(coat, tone), (x, 0.12), knee, 0.12, 0.065)
        pen.limb(shade(coat, tone), knee, (knee[0] - side * 0.04, 0.92), 0.06, 0.05)
        pen.box(BLACK, knee[0] - side * 0.04 - 0.07, 0.9, knee[0] - side * 0.04 + 0.08, 1)
    pen.smooth(coat, (-0.68, 0), (-0.55, -0.26), (-0.1, -0.2), (0.3, -0.3), (0.47, 0), (0.3, 0.25), (-0.2, 0.22), (-0.6, 0.27))
    pen.limb(coat, (0.3, -0.08), (0.58, -0.65), 0.2, 0.13)
    pen.path(mane, 0.07, (0.14, -0.28), (0.4, -0.65), (0.52, -0.83))
    pen.limb(coat, (0.57, -0.72), (0.88, -0.45), 0.15, 0.09)
    pen.polygon(coat, (0.48, -0.8), (0.52, -1), (0.62, -0.82))
    pen.ellipse(BLACK, 0.66, -0.72, 0.035, 0.035)
    pen.ellipse(shade(coat, 0.5), 0.92, -0.43, 0.03, 0.025)
