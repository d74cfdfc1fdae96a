"""Pictures side by side, with a few words below each."""

import textwrap
from collections.abc import Sequence

from jaxtyping import UInt8
from matplotlib.figure import Figure
from torch import Tensor

from cortexflow.errors import CortexflowError
from cortexflow.report.canvas import new_figure, styled

WIDTH, LETTERS = 1.9, 26  # of a picture in inches, and of a line of its words


@styled
def plot_pictures(images: UInt8[Tensor, "images 3 height width"], words: Sequence[str] = (), *, columns: int = 5) -> Figure:
    """A grid of pictures.

    Arguments:
        images: Values 0 to 255.
        words: One text for each picture, or none.
        columns: Pictures in a row.

    Raises:
        CortexflowError: Another number of texts than pictures, or no picture.
    """
    if not len(images) or (words and len(words) != len(images)):
        raise CortexflowError(f"there are {len(images)} pictures and {len(words)} texts; give at least one picture and one text for each, or none")
    texts = [textwrap.fill(text, LETTERS) for text in words] or [""] * len(images)
    rows, lines = -(-len(images) // columns), max(text.count("\n") + 1 for text in texts) if words else 0
    figure = new_figure(WIDTH * min(columns, len(images)), rows * (WIDTH * images.shape[2] / images.shape[3] + 0.16 * lines + 0.05))
    grid = figure.subplots(rows, min(columns, len(images)), squeeze=False)
    for ax in grid.flat:
        ax.set_axis_off()
    for ax, image, text in zip(grid.flat, images, texts, strict=False):
        ax.imshow(image.permute(1, 2, 0).numpy())
        ax.set_title(text, y=0, va="top", pad=-4, fontsize=7.5, loc="center")
    return figure
