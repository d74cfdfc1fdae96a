"""Values on fsaverage5 land on their vertices, without any request."""

import base64
import json
import re

import numpy as np
import pytest
import torch

surface = pytest.importorskip("cortexflow.report.surface", reason="needs nilearn", exc_type=ImportError)

from cortexflow.errors import CortexflowError  # noqa: E402


@pytest.fixture(scope="module")
def values():
    """r falls from 1 at the occipital pole of the left hemisphere; nothing is known of the right."""
    places = torch.tensor(surface.load_fsaverage("fsaverage5")["inflated"].parts["left"].coordinates[:, 1])
    left = (places.max() - places) / (places.max() - places.min())
    return torch.stack([left.float(), torch.full((surface.VERTICES,), torch.nan)], 1)


def test_vertex_colours_follow_the_values(values):
    left, right = (surface._colours(values, column, False, 1.0) for column in (0, 1))
    top, bottom = int(values[:, 0].argmax()), int(values[:, 0].argmin())
    assert left[top, 0] > 0.9 > left[bottom, 0]  # the yellow and the violet end of viridis
    assert len(np.unique(right.round(6), axis=0)) == 2  # gyri and sulci


def test_the_back_of_the_brain_is_left_in_a_right_lateral_view(values):
    """From the right side the front is to the right; from the left side, to the left."""
    part = surface.load_fsaverage("fsaverage5")["inflated"].parts["right"]
    places, faces, light = surface._seen(part.coordinates, part.faces, "lateral", "right")
    back = int(part.coordinates[:, 1].argmin())
    assert places[back, 0] < places[:, 0].mean()
    assert 0 < len(faces) < len(part.faces)
    assert light.min() >= 0.62
    assert light.max() <= 1.0
    left = surface._seen(part.coordinates, part.faces, "lateral", "left")[0]
    assert left[back, 0] > left[:, 0].mean()


def test_figures_have_a_panel_for_each_view_and_hemisphere(values):
    figure = surface.plot_surface(values, views=("lateral", "ventral"), title="r", label="r")
    assert [ax.get_title(loc="center") for ax in figure.axes[:4]] == ["left lateral", "left ventral", "right lateral", "right ventral"]
    flat = surface.plot_surface_flat(values)
    faces = surface.load_fsaverage("fsaverage5")["flat"].parts["left"].faces
    assert len(flat.axes[0].collections[0].get_paths()) == len(faces)


def test_wrong_sizes_and_views_are_errors(values):
    with pytest.raises(CortexflowError, match=r"\(10242, 2\)"):
        surface.plot_surface(torch.zeros(100, 2))
    with pytest.raises(CortexflowError, match="'inside'; choose from lateral"):
        surface.plot_surface(values, views=("inside",))


def test_the_interactive_page_holds_the_values_and_asks_for_nothing(values, tmp_path):
    path = surface.write_surface_view(values, tmp_path / "view.html", title="</script><b>r", label="r")
    page = path.read_text(encoding="utf-8")
    assert not re.findall(r"https?://", page)
    assert "default-src 'none'" in page
    assert "&lt;/script&gt;&lt;b&gt;r" in page
    data = json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)[1])
    stored = np.frombuffer(base64.b64decode(data["values"]), dtype=np.float32).reshape(2, -1)
    assert np.array_equal(stored, values.T.numpy(), equal_nan=True)
    faces = np.frombuffer(base64.b64decode(data["faces"]), dtype=np.uint16)
    assert faces.max() == 2 * surface.VERTICES - 1
    assert data["ends"][0] == "0"
