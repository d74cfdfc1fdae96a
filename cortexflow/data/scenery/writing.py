"""Words and numbers, as strokes on a board."""

from cortexflow.data.scenery.pen import BLACK, WHITE, Look, Pen, Real, Tone, shade

# Strokes on a grid of 3 × 5 points, columns 0 to 2 and rows 0 to 4, written as columnrow.
LETTERS = (
    "04 02 10 22 24,02 22", "20 00 04 24,02 12", "00 04,20 24,02 22", "10 14,00 20,04 24", "00 04,20 02 24", "00 04 24", "04 00 12 20 24",
    "04 00 24 20", "10 14,00 20", "00 14 20", "00 04 12 24 20", "00 24,20 04", "00 12 20,12 14", "00 20 04 24", "01 10 21 23 14 03 01",
    "21 10 01 03 14 23", "00 03 14 23 20", "04 00 20 22 02", "04 00 20 22 02 24", "20 00 02 22 24 04", "00 04 14 23 21 10 00",
)  # fmt: skip
DIGITS = (
    "00 20 24 04 00", "01 10 14", "00 20 22 02 04 24", "00 20 24 04,02 22", "00 02 22,20 24", "20 00 02 22 24 04", "20 00 04 24 22 02",
    "00 20 14", "00 20 24 04 00,02 22", "22 02 00 20 24 04",
)  # fmt: skip


def word(pen: Pen, look: Look) -> None:
    """Three to six letters on a wide board in the main colour."""
    count = 3 + look.pick(0, 4)
    _board(pen, look, 0.42)
    _write(pen, look, [LETTERS[look.pick(2 + place, len(LETTERS))] for place in range(count)], 0.26)


def number(pen: Pen, look: Look) -> None:
    """One to three digits on a round or square plate in the main colour."""
    count = 1 + look.pick(0, 3)
    if look.dials[1] < 0.5:
        pen.ellipse(shade(look.main, 0.6), 0, 0, 0.95, 0.95)
        pen.ellipse(look.main, 0, 0, 0.87, 0.87)
    else:
        _board(pen, look, 0.8)
    _write(pen, look, [DIGITS[look.pick(2 + place, 10)] for place in range(count)], (0.55, 0.42, 0.36)[count - 1])


def _board(pen: Pen, look: Look, high: Real) -> None:
    pen.box(shade(look.main, 0.6), -1, -high, 1, high)
    pen.box(look.main, -0.95, 0.05 - high, 0.95, high - 0.05)


def _write(pen: Pen, look: Look, signs: list[str], high: Real) -> None:
    """Signs side by side, ``high`` half the height."""
    ink = _ink(look.main)
    step = min(1.75 / len(signs), high * 1.8)
    bold = look.between(15, 0.09, 0.15) * min(high * 1.6, step)
    for place, sign in enumerate(signs):
        x = (place - (len(signs) - 1) / 2) * step
        for stroke in sign.split(","):
            pen.path(ink, bold, *[(x + (int(p[0]) - 1) * step * 0.33, (int(p[1]) - 2) / 2 * high) for p in stroke.split()])


def _ink(board: Tone) -> Tone:
    return BLACK if sum(board) > 1.35 else WHITE
