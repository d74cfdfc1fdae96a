import pytest
import torch

from cortexflow.errors import CortexflowError
from cortexflow.report.pictures import plot_pictures


def test_every_picture_stands_above_its_words():
    images = torch.randint(0, 256, (7, 3, 8, 12), dtype=torch.uint8)
    figure = plot_pictures(images, [f"picture {number}" for number in range(7)], columns=3)
    assert len(figure.axes) == 9
    for number, ax in enumerate(figure.axes[:7]):
        assert ax.get_title() == f"picture {number}"
        assert (ax.images[0].get_array() == images[number].permute(1, 2, 0).numpy()).all()
    assert not figure.axes[8].images


def test_texts_of_another_number_are_a_clear_error():
    with pytest.raises(CortexflowError, match="2 pictures and 1 texts"):
        plot_pictures(torch.zeros(2, 3, 4, 4, dtype=torch.uint8), ["one"])
    with pytest.raises(CortexflowError, match="0 pictures"):
        plot_pictures(torch.zeros(0, 3, 4, 4, dtype=torch.uint8))
