import math

import numpy as np
import pytest
import torch
from scipy.signal import convolve2d

from cortexflow.catalog import configure, names
from cortexflow.errors import CortexflowError
from cortexflow.features.gabor import Gabor

SCALES = (2, 4, 8, 16)


def grating(cycles, degrees, phase=0.0, side=64):
    """Stripes at this many degrees counter-clockwise from horizontal, amplitude about 0.49 of white."""
    place = (torch.arange(side) + 0.5) / side
    along = math.sin(math.radians(degrees)) * place[None, :] + math.cos(math.radians(degrees)) * place[:, None]
    wave = 127.5 + 125 * torch.cos(2 * math.pi * cycles * along + phase)
    return wave.round().to(torch.uint8).expand(3, side, side)


def by_place(level, orientations=8):
    grid = math.isqrt(level.shape[1] // orientations)
    return level.reshape(len(level), orientations, grid, grid)


def noise(n, side=64, seed=0):
    return torch.randint(0, 256, (n, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def test_the_catalogue_finds_it():
    assert "gabor" in names("features")
    entry, config = configure("features", {"name": "gabor", "scales": [4], "grids": [3], "orientations": 6})
    assert {name: tuple(level.shape) for name, level in entry(config)(noise(2)).items()} == {"scale4": (2, 54)}


def test_levels_come_by_scale():
    sizes = {name: level.shape[1] for name, level in Gabor()(noise(1)).items()}
    assert list(sizes.items()) == [("scale2", 32), ("scale4", 128), ("scale8", 512), ("scale16", 2048)]


@pytest.mark.parametrize("cycles", SCALES)
@pytest.mark.parametrize("orientation", range(8))
def test_a_grating_drives_its_own_channel_most(cycles, orientation):
    levels = Gabor()(grating(cycles, orientation * 22.5)[None])
    answers = {(name, o): by_place(level)[0, o].mean().item() for name, level in levels.items() for o in range(8)}
    assert max(answers, key=answers.get) == (f"scale{cycles}", orientation)


def test_orientation_is_that_of_the_stripes():
    rows = torch.zeros(1, 3, 64, 64, dtype=torch.uint8)
    rows[:, :, (torch.arange(64) // 4) % 2 == 0] = 255  # horizontal stripes, 8 cycles
    energy = by_place(Gabor()(rows)["scale8"])[0].mean((1, 2))
    assert energy.argmax() == 0 and energy[4] < 0.05 * energy[0]


@pytest.mark.parametrize("cycles", SCALES)
@pytest.mark.parametrize("orientation", [0, 1, 2, 4])
def test_energy_hardly_depends_on_phase(cycles, orientation):
    phases = torch.linspace(0, 2 * math.pi, 9)[:-1].tolist()
    images = torch.stack([grating(cycles, orientation * 22.5, phase) for phase in phases])
    energy = by_place(Gabor()(images)[f"scale{cycles}"])[:, orientation]
    spread = (energy.amax(0) - energy.amin(0)) / energy.mean(0)
    mean = energy.mean((1, 2))
    assert (mean.max() - mean.min()) / mean.mean() < 0.015
    if cycles > 2:  # a grid of two has no point away from the border
        assert spread[1:-1, 1:-1].max() < 0.02


def test_a_wave_that_fills_the_window_has_its_amplitude_as_energy():
    energy = by_place(Gabor()(grating(8, 45, side=256)[None])["scale8"])[0, 2, 3:5, 3:5]
    attenuation = np.sinc(8 / math.sqrt(2) / 64) ** 2  # of averaging 4 x 4 pixels, along either side
    assert torch.allclose(energy, torch.tensor(125 / 255 * attenuation, dtype=torch.float32), rtol=0.01)


@pytest.mark.parametrize("value", [0, 77, 255])
def test_a_blank_picture_has_no_energy(value):
    levels = Gabor()(torch.full((1, 3, 70, 90), value, dtype=torch.uint8))
    assert max(level.abs().max() for level in levels.values()) < 1e-6


def test_a_bright_region_has_no_energy_away_from_its_edge():
    image = torch.zeros(1, 3, 64, 64, dtype=torch.uint8)
    image[..., 32:] = 255
    energy = by_place(Gabor()(image)["scale16"])[0]
    assert energy[:, 5:11, [4, 11]].max() < 1e-4 < 0.1 < energy[4, 5:11, [7, 8]].min()


def test_energy_does_not_know_luminance_and_grows_with_contrast():
    low = grating(4, 0).float() / 4
    dark, bright, strong = (image.round().to(torch.uint8) for image in (low, low + 150, low * 2))
    dark, bright, strong = Gabor()(torch.stack([dark, bright, strong]))["scale4"]
    assert torch.allclose(dark, bright, atol=1e-6)
    assert torch.allclose(strong, 2 * dark, atol=0.004)  # pictures are rounded to whole numbers


def test_a_mirrored_picture_mirrors_the_energies():
    images = noise(3)
    plain, mirrored = Gabor()(images), Gabor()(images.flip(-1))
    for name, level in plain.items():
        other = torch.tensor([0, 7, 6, 5, 4, 3, 2, 1])  # stripes at t degrees lie at 180 - t in a mirror
        expected = by_place(level)[:, other].flip(-1)
        assert torch.allclose(by_place(mirrored[name]), expected, atol=0.01 * level.mean())


def test_energy_equals_filtering_in_space():
    """The even and odd filter of the textbook, convolved pixel by pixel."""
    size, cycles, orientation, grid = 32, 4, 3, 4
    image = noise(1, size)
    gray = np.tensordot([0.299, 0.587, 0.114], image[0].numpy() / 255.0, 1)
    deviation = math.sqrt(2 * math.log(2)) * 3 / (2 * math.pi) / cycles  # pictures; one octave
    place = np.arange(-size + 1, size) / size
    x, y = np.meshgrid(place, place)
    window = np.exp(-(x**2 + y**2) / (2 * deviation**2))
    window /= window.sum()
    angle = math.pi * orientation / 8
    wave = np.exp(2j * math.pi * cycles * (math.sin(angle) * x + math.cos(angle) * y))
    filters = 2 * window * (wave - (window * wave).sum())
    energy = np.abs(convolve2d(gray - gray.mean(), filters, mode="same"))
    at = (np.arange(size) + 0.5) / size
    pool = np.exp(-0.5 * ((at[None] - (np.arange(grid)[:, None] + 0.5) / grid) * 2 * grid) ** 2)
    pool /= pool.sum(1, keepdims=True)
    expected = pool @ energy @ pool.T
    ours = Gabor(Gabor.Config(size=size, scales=(cycles,), grids=(grid,)))(image)["scale4"]
    # Samples stand four to a cycle here and at every pixel there: the pooled means differ by a little.
    assert np.abs(by_place(ours)[0, orientation].numpy() / expected - 1).max() < 0.03


@pytest.mark.parametrize("side", [40, 64, 129])
def test_batches_change_nothing(side):
    images = noise(32, side)
    together = Gabor()(images)
    alone = [Gabor()(image[None]) for image in images]
    for name, level in together.items():
        assert (level - torch.cat([one[name] for one in alone])).abs().max() <= 1e-6


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"scales": [2, 32], "grids": [2, 2]}, "need 128 pixels"),
        ({"scales": [4, 2], "grids": [2, 2]}, "ascend"),
        ({"scales": [2, 2], "grids": [2, 2]}, "ascend"),
        ({"scales": [], "grids": []}, "ascend"),
        ({"scales": [2, 4]}, "one number per scale"),
        ({"scales": [2], "grids": [9]}, "at most 8"),
        ({"orientations": 0}, "orientations"),
        ({"size": 2}, "size"),
        ({"phases": 2}, "options are size, scales, grids, orientations"),
    ],
)
def test_wrong_options_say_what_to_do(options, says):
    with pytest.raises(CortexflowError, match=says) as caught:
        configure("features", {"name": "gabor", **options})
    assert "\n" not in str(caught.value)
