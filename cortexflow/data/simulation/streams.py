"""One random generator per purpose, so that changing one part of a simulation leaves the others as they were."""

import zlib

import numpy as np


def stream(seed: int, *purpose: str | int) -> np.random.Generator:
    """A generator named by its purpose: ``stream(0, "noise", "subj01")``.

    Arguments:
        seed: The seed of the whole simulation, at least 0.
        purpose: Words and numbers; equal purposes give equal draws, different ones independent draws.
    """
    words = [part if isinstance(part, int) else zlib.crc32(part.encode()) for part in purpose]
    return np.random.default_rng(np.random.SeedSequence([seed, *words]))
