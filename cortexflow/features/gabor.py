r"""Contrast energy of Gabor filters: what a complex cell of V1 answers, without a learned weight.

A filter is a wave of frequency :math:`f` under a Gaussian window, in two phases a quarter of a cycle apart. In Fourier space
the pair is one complex filter, a Gaussian bump at the wave vector :math:`k_0` from which a smaller bump at zero is taken, so
that even luminance passes nothing:

.. math:: H(k) = e^{-|k - k_0|^2 / 2 s^2} - e^{-|k_0|^2 / 2 s^2} e^{-|k|^2 / 2 s^2},\qquad s = \frac{f}{3 \sqrt{2 \ln 2}}

where :math:`s` gives a bandwidth of one octave at half height (from 2/3 to 4/3 of :math:`f`). Real and imaginary part of
the filtered picture are the even and the odd answer, and the energy is :math:`\sqrt{\mathrm{even}^2 + \mathrm{odd}^2}`: it
tells how much of the wave there is and not in which phase. It is scaled so that a wave of amplitude :math:`a` that fills the
window has energy :math:`a`. Energies are averaged around the points of a grid, one grid per frequency.

The picture lies on a surround of its own mean luminance, as pictures on a grey screen do; its border is an edge like others.

References:
    Spatiotemporal energy models for the perception of motion (Adelson and Bergen, 1985).
    Identifying natural images from human brain activity (Kay et al., 2008): as many positions as cycles along each side.
"""

import math

import torch
from jaxtyping import Complex, Float, UInt8
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor

from cortexflow.catalog import Choices
from cortexflow.features.base import Features
from cortexflow.features.pixels import area_average, luminance

OCTAVE = 1 / (3 * math.sqrt(2 * math.log(2)))  # deviation over frequency of a Gaussian that is one octave wide at half height


class Gabor(Features):
    """Contrast energy by frequency, orientation and position; one level per frequency, ``scale2``, ``scale4`` …

    Columns of a level run over orientations, within an orientation over rows of the grid from top to bottom, and within a row
    from left to right. Orientation ``i`` of ``n`` has stripes at ``180 i / n`` degrees, counter-clockwise from horizontal.
    """

    class Config(Choices):
        """Choices of the filters.

        Arguments:
            size: Pictures are brought to this many pixels along each side.
            scales: Frequencies in cycles per picture, ascending; four pixels per cycle at least.
            grids: Positions along each side, one number per scale.
            orientations: How many, evenly spread over 180 degrees.
        """

        size: int = Field(default=64, ge=4)
        scales: tuple[PositiveInt, ...] = (2, 4, 8, 16)
        grids: tuple[PositiveInt, ...] = (2, 4, 8, 16)
        orientations: PositiveInt = 8

        @model_validator(mode="after")
        def _fits(self) -> "Gabor.Config":
            if not self.scales or list(self.scales) != sorted(set(self.scales)):
                raise ValueError(f"scales must ascend without repeats, as in (2, 4, 8), these are {self.scales}")
            if 4 * self.scales[-1] > self.size:
                raise ValueError(f"{self.scales[-1]} cycles need {4 * self.scales[-1]} pixels and size is {self.size}; raise size or drop the scale")
            if len(self.grids) != len(self.scales):
                raise ValueError(f"grids must have one number per scale, these are {len(self.grids)} grids for {len(self.scales)} scales")
            for scale, grid in zip(self.scales, self.grids, strict=True):
                if grid > 4 * scale:
                    raise ValueError(f"a grid of {grid} is finer than scale {scale} can fill; choose at most {4 * scale}")
            return self

    config: Config
    revision = "1"

    def extract(self, images: UInt8[Tensor, "stimuli 3 height width"]) -> dict[str, Float[Tensor, "stimuli _"]]:
        """Energies from 0 up, in units of luminance (1 from black to white): a wave of full contrast has 0.5."""
        size = self.config.size
        pictures = area_average(luminance(images), (size, size))
        pictures = pictures - pictures.mean((-2, -1), keepdim=True)
        # As much surround again as there is picture, so that one border does not reach the other around the torus.
        spectrum = torch.fft.fft2(pictures, s=(2 * size, 2 * size))
        return {f"scale{scale}": self._energy(spectrum, scale, grid) for scale, grid in zip(self.config.scales, self.config.grids, strict=True)}

    def _energy(self, spectrum: Complex[Tensor, "stimuli side side"], scale: int, grid: int) -> Float[Tensor, "stimuli _"]:
        """Energy of one scale, sampled four times per cycle, which its band of frequencies allows, then pooled."""
        samples, size = 4 * scale, self.config.size
        band = (torch.fft.fftfreq(2 * samples) * 2 * samples).round().long().to(spectrum.device)
        kept = spectrum[:, band % (2 * size)][:, :, band % (2 * size)]
        filters = _filters(scale, self.config.orientations, band, size)
        answers = torch.fft.ifft2(kept[:, None] * filters)[..., :samples, :samples] * (samples / size) ** 2
        # Half of a real wave's amplitude lies at the mirrored wave vector, where the filter is blind.
        energy = 2 * answers.abs()
        pool = _pool(samples, grid, spectrum.device)
        return (pool @ energy @ pool.T).flatten(1)


def _filters(scale: int, orientations: int, band: Tensor, size: int) -> Complex[Tensor, "orientations _ _"]:
    """The complex filter of each orientation at the kept frequencies."""
    frequency = band / 2  # cycles per picture: the transform spans two pictures
    angle = torch.arange(orientations, device=band.device) * (math.pi / orientations)
    across, down = scale * angle.sin()[:, None, None], scale * angle.cos()[:, None, None]
    column, row = frequency[None, None, :], frequency[None, :, None]
    passed = _bump(column - across, row - down, scale) - math.exp(-0.5 / OCTAVE**2) * _bump(column, row, scale)
    # Samples stand in the middle of their cells, where pixels of another size stand too.
    shift = torch.polar(torch.ones_like(frequency), math.pi / 2 * (4 * scale) ** -1 * band * (1 - 4 * scale / size))
    return passed * shift[:, None] * shift[None, :]


def _bump(column: Tensor, row: Tensor, scale: int) -> Tensor:
    return torch.exp(-(column**2 + row**2) / (2 * (OCTAVE * scale) ** 2))


def _pool(samples: int, grid: int, device: torch.device) -> Float[Tensor, "grid samples"]:
    """Weights of the mean around each grid point: Gaussian, with a deviation of half the distance between points."""
    place = (torch.arange(samples, dtype=torch.float64) + 0.5) / samples
    centre = (torch.arange(grid, dtype=torch.float64)[:, None] + 0.5) / grid
    weights = torch.exp(-0.5 * ((place - centre) * grid / 0.5) ** 2)
    return (weights / weights.sum(1, keepdim=True)).float().to(device)
