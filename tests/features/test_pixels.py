import numpy as np
import pytest
import torch
from PIL import Image

from cortexflow.catalog import configure, names
from cortexflow.errors import CortexflowError
from cortexflow.features.pixels import Pixels, area_average, luminance


def pictures(n, height=24, width=36, seed=0):
    return torch.randint(0, 256, (n, 3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def test_the_catalogue_finds_it_and_its_options():
    assert "pixels" in names("features")
    entry, config = configure("features", {"name": "pixels", "size": [9, 16]})
    assert entry is Pixels and entry(config)(pictures(2))["pixels"].shape == (2, 144)


def test_luminance_is_pillows():
    images = pictures(1)
    expected = np.asarray(Image.fromarray(images[0].permute(1, 2, 0).numpy()).convert("L"), dtype=np.float64)
    assert np.abs(luminance(images)[0].numpy() * 255 - expected).max() <= 1  # Pillow rounds to whole numbers


def test_area_average_equals_block_means_where_cells_divide_the_picture():
    values = torch.rand(4, 24, 36)
    blocks = values.reshape(4, 4, 6, 9, 4).mean((2, 4))
    assert torch.allclose(area_average(values, (4, 9)), blocks, atol=1e-6)


def test_area_average_shares_pixels_between_cells():
    values = torch.rand(7, 5)
    # Repeating every pixel until cells divide the picture makes the shares whole pixels.
    fine = values.repeat_interleave(3, 0).repeat_interleave(4, 1)
    expected = fine.reshape(3, 7, 4, 5).mean((1, 3))
    assert torch.allclose(area_average(values, (3, 4)), expected, atol=1e-6)


def test_means_stay_between_black_and_white():
    images = torch.cat([torch.zeros(1, 3, 50, 41), torch.full((1, 3, 50, 41), 255)]).to(torch.uint8)
    black, white = Pixels()(images)["pixels"]
    assert black.abs().max() == 0 and white.max() <= 1 and white.min() > 1 - 1e-5


def test_columns_run_along_rows_and_colours_stay_apart():
    image = torch.zeros(1, 3, 8, 8, dtype=torch.uint8)
    image[0, 1, :4, 4:] = 255  # the upper right quarter is green
    gray = Pixels(Pixels.Config(size=(2, 2)))(image)["pixels"][0]
    colour = Pixels(Pixels.Config(size=(2, 2), gray=False))(image)["pixels"][0]
    assert torch.allclose(gray, torch.tensor([0, 0.587, 0, 0]))
    assert torch.allclose(colour, torch.tensor([0, 0, 0, 0, 0, 1.0, 0, 0, 0, 0, 0, 0]))


def test_another_choice_is_another_key():
    keys = {Pixels().key, Pixels(Pixels.Config(gray=False)).key, Pixels(Pixels.Config(size=(9, 16))).key}
    assert len(keys) == 3 and Pixels().key == Pixels(Pixels.Config(size=(16, 16))).key


@pytest.mark.parametrize("option", [{"size": [0, 4]}, {"size": [4]}, {"sizes": [4, 4]}])
def test_wrong_options_are_one_line(option):
    with pytest.raises(CortexflowError) as caught:
        configure("features", {"name": "pixels", **option})
    assert "\n" not in str(caught.value) and "size" in str(caught.value)
