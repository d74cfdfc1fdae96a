"""A gain on the signal is a rank-one addition to the covariance, taken out and put back by a triangular root."""

import pytest
import torch

from cortexflow.nn.signal_gain import SignalGain, colour, whiten

TRIALS, SIZE = 40, 9


def normal(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_whitening_is_the_triangular_root_of_the_covariance():
    values, signal, gain = normal(0, TRIALS, SIZE), normal(1, TRIALS, SIZE), torch.tensor(0.7, dtype=torch.float64)
    white, volume = whiten(values, signal, gain)
    for row in range(TRIALS):
        root = torch.linalg.cholesky(torch.eye(SIZE, dtype=torch.float64) + gain * torch.outer(signal[row], signal[row]))
        expected = torch.linalg.solve_triangular(root, values[row, :, None], upper=False)[:, 0]
        torch.testing.assert_close(white[row], expected)
        torch.testing.assert_close(volume[row], -root.diagonal().log().sum())
    torch.testing.assert_close(colour(white, signal, gain), values)


def planted(shared, own, trials=6000, widths=(5, 4)):
    """Coordinates with the identity as mean covariance, shared and own gains in them."""
    pattern = normal(2, trials, sum(widths)) * 0.8
    noise = normal(3, trials, sum(widths)) + (shared**0.5) * normal(4, trials, 1) * pattern
    noise[:, : widths[0]] += (own**0.5) * normal(5, trials, 1) * pattern[:, : widths[0]]
    root = torch.linalg.cholesky(noise.T @ noise / trials)
    white = (torch.linalg.solve_triangular(root, part.T, upper=False).T.float() for part in (noise, pattern))
    return (*white, widths)


def test_a_planted_gain_is_found_where_it_is():
    coordinates, signal, widths = planted(0.16, 0.0)
    gain = SignalGain()
    gain.fit(coordinates, signal, widths)
    assert float(gain.gains[0]) == pytest.approx(0.16, abs=0.04)
    assert float(gain.gains[1:].max()) < 0.03


def test_an_area_has_a_gain_of_its_own():
    coordinates, signal, widths = planted(0.0, 0.3)
    gain = SignalGain()
    gain.fit(coordinates, signal, widths)
    assert float(gain.gains[1]) > 0.1 and float(gain.gains[2]) == 0


def test_without_a_gain_nothing_changes():
    coordinates, signal, widths = planted(0.0, 0.0)
    gain = SignalGain()
    assert torch.equal(gain.fit(coordinates, signal, widths), coordinates) and not gain.gains.any()


def test_the_way_back_and_its_volume():
    coordinates, signal, widths = planted(0.16, 0.2)
    gain = SignalGain()
    gain.fit(coordinates, signal, widths)
    rest, volume = gain(coordinates[:5], signal[:5])
    torch.testing.assert_close(gain.inverse(rest, signal[:5]), coordinates[:5], atol=1e-5, rtol=1e-5)
    for row in range(5):
        slope = torch.autograd.functional.jacobian(lambda v, row=row: gain(v[None], signal[row : row + 1])[0][0], coordinates[row])
        torch.testing.assert_close(volume[row], slope.logdet(), atol=1e-4, rtol=1e-4)
        assert not slope.triu(1).any()  # what an area is does not depend on later ones


def test_a_gain_saves_what_likelihood_says():
    coordinates, signal, widths = planted(0.3, 0.0)
    half = len(coordinates) // 2
    gain = SignalGain()
    gain.fit(coordinates[:half], signal[:half], widths)
    rest, volume = gain(coordinates[half:], signal[half:])
    saved = (volume - 0.5 * rest.square().sum(1) + 0.5 * coordinates[half:].square().sum(1)).mean()
    assert float(saved) > 0.05  # nats per trial, on trials that it was not fitted to
