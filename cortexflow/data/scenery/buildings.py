"""Houses, churches and towers."""

from cortexflow.data.scenery.pen import Look, Pen, Real, Tone, shade

GLASS: Tone = (0.35, 0.5, 0.62)
ROOFS: tuple[Tone, ...] = ((0.55, 0.2, 0.14), (0.32, 0.3, 0.32), (0.42, 0.28, 0.18), (0.25, 0.33, 0.42))


def _window(pen: Pen, x: Real, y: Real, wide: Real, high: Real, frame: Tone) -> None:
    pen.box(frame, x - wide - 0.025, y - high - 0.025, x + wide + 0.025, y + high + 0.025)
    pen.box(GLASS, x - wide, y - high, x + wide, y + high)
    pen.polygon(shade(GLASS, 1.35), (x - wide, y - high), (x + wide * 0.4, y - high), (x - wide, y + high * 0.4))
    pen.box(frame, x - 0.012, y - high, x + 0.012, y + high)


def house(pen: Pen, look: Look) -> None:
    """Gabled roof, door, two to four windows."""
    wall, roof, frame = look.main, ROOFS[look.pick(0, 4)], shade(look.main, 1.7)
    wide, top = look.between(1, 0.7, 0.92), look.between(2, -0.3, 0)
    if look.dials[3] > 0.4:
        pen.box(shade(roof, 0.7), 0.35, -0.85, 0.53, -0.2)
    pen.box(wall, -wide, top, wide, 1)
    pen.polygon(shade(wall, 0.82), (wide * 0.45, top), (wide, top), (wide, 1), (wide * 0.45, 1))
    if look.dials[4] > 0.5:
        pen.polygon(roof, (-wide - 0.1, top), (0, -0.95), (wide + 0.1, top))
        pen.ellipse(GLASS, 0, top - 0.25, 0.1, 0.1)
    else:
        pen.polygon(roof, (-wide - 0.08, top), (-wide * 0.6, -0.85), (wide * 0.6, -0.85), (wide + 0.08, top))
        for row in (0.33, 0.66):
            pen.path(
                shade(roof, 0.8),
                0.012,
                (-wide * (0.6 + 0.4 * row), -0.85 + row * (top + 0.85)),
                (wide * (0.6 + 0.4 * row), -0.85 + row * (top + 0.85)),
            )
    door = look.between(5, -0.15, 0.2)
    pen.box(shade(look.second, 0.5), door - 0.15, 0.42, door + 0.15, 1)
    pen.box(look.second, door - 0.12, 0.46, door + 0.12, 1)
    pen.ellipse((0.9, 0.8, 0.3), door + 0.07, 0.74, 0.022, 0.022)
    for side in (-1, 1):
        _window(pen, door + side * (wide * 0.58), 0.55, 0.13, 0.14, frame)
        if top < -0.12:
            _window(pen, door + side * (wide * 0.5), 0.07, 0.12, 0.11, frame)


def church(pen: Pen, look: Look) -> None:
    """A nave with a steeple on one side."""
    wall, roof = look.main, ROOFS[look.pick(0, 4)]
    pen.box(shade(wall, 0.88), -0.3, 0.2, 0.95, 1)
    pen.polygon(roof, (-0.3, 0.2), (-0.2, -0.2), (0.85, -0.2), (1, 0.2))
    pen.box(wall, -0.75, -0.25, -0.15, 1)
    pen.polygon(shade(roof, 0.85), (-0.82, -0.25), (-0.45, look.between(1, -0.95, -0.8)), (-0.08, -0.25))
    pen.box((0.85, 0.75, 0.3), -0.465, -1, -0.435, -0.7)
    pen.box((0.85, 0.75, 0.3), -0.52, -0.94, -0.38, -0.91)
    pen.ellipse((0.92, 0.9, 0.8), -0.45, 0.0, 0.13, 0.13)
    pen.path((0.1, 0.1, 0.1), 0.015, (-0.45, -0.09), (-0.45, 0), (-0.38, 0.04))
    pen.box(shade(look.second, 0.6), -0.58, 0.6, -0.32, 1)
    pen.ellipse(shade(look.second, 0.6), -0.45, 0.6, 0.13, 0.14)
    for x in (0.08, 0.4, 0.72):
        pen.box(GLASS, x - 0.08, 0.45, x + 0.08, 0.8)
        pen.ellipse(GLASS, x, 0.45, 0.08, 0.1)


def tower(pen: Pen, look: Look) -> None:
    """A tall block with rows of windows, some lit."""
    wide = look.between(0, 0.38, 0.6)
    floors, columns = 5 + look.pick(1, 4), 3 + look.pick(2, 2)
    pen.box(look.main, -wide, -0.85, wide, 1)
    pen.polygon(shade(look.main, 0.7), (wide, -0.85), (wide + 0.16, -0.75), (wide + 0.16, 1), (wide, 1))
    pen.box(shade(look.main, 0.6), -wide - 0.03, -0.9, wide + 0.03, -0.83)
    if look.dials[3] > 0.5:
        pen.path((0.3, 0.3, 0.3), 0.015, (0, -0.85), (0, -1.1))
    for floor in range(floors):
        for column in range(columns):
            x, y = -wide + (column + 0.5) * 2 * wide / columns, -0.72 + floor * 1.45 / floors
            lit = look.dials[(3 * floor + 5 * column) % 16] > 0.7
            pen.box((0.98, 0.88, 0.5) if lit else shade(GLASS, 0.7), x - 0.55 * wide / columns, y, x + 0.55 * wide / columns, y + 0.9 / floors)
    pen.box((0.15, 0.12, 0.1), -0.12, 0.84, 0.12, 1)
