"""Apples, bananas, pizzas, cakes and burgers."""

import math

from cortexflow.data.scenery.pen import COLOURS, Look, Pen, Tone, mix, shade

LEAF: Tone = (0.25, 0.55, 0.2)


def apple(pen: Pen, look: Look) -> None:
    """Round, a dimple at the top, stalk and leaf."""
    skin = look.main
    wide = look.between(0, 0.78, 0.92)
    pen.smooth(
        skin, (0, -0.5), (0.45, -0.68), (wide, -0.2), (0.75, 0.5), (0.35, 0.9), (0, 0.82), (-0.35, 0.9), (-0.75, 0.5), (-wide, -0.2), (-0.45, -0.68)
    )
    pen.ellipse(mix(skin, (0.95, 0.8, 0.3), 0.35), look.between(1, -0.3, 0.3), 0.1, 0.3, 0.45)
    pen.ellipse(shade(skin, 1.6), -0.4, -0.22, 0.14, 0.22, 0.5)
    pen.ellipse(shade(skin, 0.5), 0, -0.5, 0.2, 0.07)
    pen.limb((0.3, 0.2, 0.1), (0, -0.48), (look.between(2, -0.12, 0.15), -0.95), 0.045)
    if look.dials[3] > 0.25:
        pen.smooth(LEAF, (0.05, -0.72), (0.3, -0.98), (0.62, -0.92), (0.35, -0.7))


def banana(pen: Pen, look: Look) -> None:
    """One banana, or a bunch of three."""
    for number in range(1 + 2 * look.pick(0, 2)):
        drop = 0.22 * number
        peel = shade(look.main, 1 - 0.1 * number)
        upper = [(-0.92, -0.45), (-0.6, 0.05 - drop), (0, 0.3 - drop), (0.6, 0.05 - drop), (0.85, -0.55)]
        lower = [(0.98, -0.5), (0.8, 0.3 - drop), (0, 0.72 - drop), (-0.75, 0.3 - drop)]
        pen.smooth(peel, *upper, *lower)
        pen.path(shade(peel, 0.75), 0.02, (-0.8, 0.05 - drop), (-0.4, 0.42 - drop), (0, 0.5 - drop), (0.45, 0.4 - drop), (0.82, 0.02 - drop))
    pen.limb((0.35, 0.25, 0.1), (0.9, -0.48), (0.93, -0.8), 0.08, 0.07)
    pen.ellipse((0.25, 0.17, 0.08), -0.92, -0.43, 0.06, 0.06)


def pizza(pen: Pen, look: Look) -> None:
    """A round pizza, sometimes without a slice; toppings vary."""
    pen.ellipse((0.75, 0.5, 0.24), 0, 0, 0.97, 0.97)
    pen.ellipse((0.87, 0.64, 0.33), 0, 0, 0.92, 0.92)
    pen.ellipse((0.8, 0.27, 0.12), 0, 0, 0.82, 0.82)
    pen.ellipse((0.96, 0.8, 0.42), 0.02, 0, 0.77, 0.76)
    for spot in range(9):
        turn = spot * 2.4 + 6 * look.dials[0]
        away = 0.62 * math.sqrt((spot + 0.6) / 9)
        x, y = away * math.cos(turn), away * math.sin(turn)
        if spot % 3 == look.pick(1, 3):
            pen.ellipse((0.25, 0.5, 0.18), x, y, 0.14, 0.06, turn)
            pen.ellipse((0.1, 0.1, 0.1), x + 0.17, y, 0.06, 0.06)
        else:
            pen.ellipse((0.6, 0.12, 0.1), x, y, 0.145, 0.145)
            pen.ellipse((0.78, 0.24, 0.17), x, y, 0.12, 0.12)
    for turn in (0.4, 1.45, 2.5):
        c, s = math.cos(turn), math.sin(turn)
        pen.path((0.7, 0.42, 0.2), 0.012, (-0.9 * c, -0.9 * s), (0.9 * c, 0.9 * s))


def cake(pen: Pen, look: Look) -> None:
    """A layered cake with icing in the main colour and candles."""
    sponge: Tone = (0.78, 0.56, 0.3) if look.dials[0] < 0.6 else (0.35, 0.2, 0.12)
    pen.ellipse((0.85, 0.87, 0.9), 0, 0.78, 1, 0.2)
    for candle in range(2 + look.pick(1, 4)):
        x = -0.45 + 0.9 * (candle + 0.5) / (2 + look.pick(1, 4))
        pen.box(COLOURS[("red", "blue", "white", "pink")[candle % 4]], x - 0.035, -0.62, x + 0.035, -0.1)
        pen.smooth((1, 0.75, 0.2), (x, -0.9), (x + 0.065, -0.72), (x, -0.63), (x - 0.065, -0.72))
    pen.box(sponge, -0.75, -0.1, 0.75, 0.75)
    pen.ellipse(sponge, 0, 0.75, 0.75, 0.15)
    pen.box(shade(look.main, 1.2), -0.75, 0.3, 0.75, 0.4)
    pen.ellipse(look.main, 0, -0.1, 0.78, 0.18)
    for drop in range(7):
        x = -0.66 + 0.22 * drop
        pen.limb(look.main, (x, -0.05), (x, 0.08 + 0.14 * look.dials[2 + drop]), 0.11, 0.09)
    pen.ellipse(shade(look.main, 1.25), 0, -0.12, 0.7, 0.13)
    for cherry in range(3):
        pen.ellipse((0.8, 0.08, 0.12), -0.4 + 0.4 * cherry, -0.13, 0.08, 0.08)


def burger(pen: Pen, look: Look) -> None:
    """A bun with layers."""
    bun: Tone = (0.85, 0.55, 0.22)
    pen.smooth(shade(bun, 0.85), (-0.85, 0.45), (0.85, 0.45), (0.8, 0.8), (0.4, 0.88), (-0.4, 0.88), (-0.8, 0.8))
    pen.limb((0.32, 0.17, 0.09), (-0.78, 0.38), (0.78, 0.38), 0.16)
    pen.polygon((1, 0.78, 0.2), (-0.85, 0.18), (0.85, 0.18), (0.5, 0.36), (0.1, 0.24), (-0.35, 0.42))
    pen.limb((0.8, 0.15, 0.1), (-0.76, 0.1), (0.76, 0.1), 0.09)
    for wave in range(7):
        pen.ellipse((0.4, 0.7, 0.2), -0.75 + 0.25 * wave, 0.02, 0.17, 0.1)
    pen.smooth(
        bun, (-0.88, -0.02), (-0.75, -0.5), (-0.3, look.between(0, -0.9, -0.75)), (0.3, look.between(0, -0.9, -0.75)), (0.75, -0.5), (0.88, -0.02)
    )
    for seed in range(8):
        x = -0.55 + 0.16 * seed
        pen.ellipse((0.98, 0.9, 0.7), x, -0.48 - 0.2 * look.dials[1 + seed] * (1 - x * x), 0.05, 0.03, look.dials[seed])
