import math

import numpy as np
import pytest
import scipy.stats
import torch
from sklearn.decomposition import FactorAnalysis

from cortexflow.errors import CortexflowError
from cortexflow.nn.factor_analysis import choose_factors, factor_log_prob, fit_factors
from cortexflow.nn.noise import DiagonalNoise, FactorNoise, RadialFactorNoise, make_noise

VOXELS, FACTORS, TRIALS = 30, 3, 1500


@pytest.fixture
def residuals():
    generator = torch.Generator().manual_seed(1)
    loadings = torch.randn(VOXELS, FACTORS, generator=generator)
    scale = torch.linspace(0.5, 4, VOXELS)
    noise = torch.randn(TRIALS, FACTORS, generator=generator) @ loadings.T + torch.randn(TRIALS, VOXELS, generator=generator)
    return noise * scale


@pytest.fixture
def tailed(residuals):
    """The same residuals, each trial scaled as a whole."""
    return residuals * (0.4 * torch.randn(len(residuals), 1, generator=torch.Generator().manual_seed(2))).exp()


def groups(trials):
    return torch.arange(trials) // 3


def test_factor_likelihood_reaches_that_of_scikit_learn(residuals):
    ours = factor_log_prob(residuals, *fit_factors(residuals, FACTORS)).mean()
    theirs = FactorAnalysis(FACTORS, tol=1e-8, max_iter=5000, svd_method="lapack").fit(residuals.numpy()).score(residuals.numpy())
    assert float(ours) == pytest.approx(theirs, abs=0.03)  # scikit-learn subtracts the sample mean, this does not


def test_both_ways_to_multiply_give_the_same_factors():
    wide = torch.randn(60, 1200, generator=torch.Generator().manual_seed(3)) @ torch.diag(torch.linspace(1, 2, 1200))
    wide += torch.randn(60, 2) @ torch.randn(2, 1200) * 2
    product = wide.double().T @ wide.double() / 60
    loadings, unique = fit_factors(wide, 2)  # more voxels than trials: the covariance is never formed
    residual = product - (loadings @ loadings.T).double() - unique.diag().double()
    assert float(residual.diagonal().abs().max()) < 0.02 * float(product.diagonal().max())
    whitened = loadings / unique.sqrt()[:, None]
    gram = whitened.T @ whitened
    assert float((gram - gram.diag().diag()).abs().max()) < 1e-2 * float(gram.max())


def test_factor_density_is_that_of_scipy(residuals):
    noise = FactorNoise(VOXELS, FACTORS)
    noise.fit(residuals, groups(TRIALS))
    reference = scipy.stats.multivariate_normal(np.zeros(VOXELS), noise.covariance().double().numpy()).logpdf(residuals[:20].numpy())
    np.testing.assert_allclose(noise.log_prob(residuals[:20]).numpy(), reference, rtol=1e-4)


def test_diagonal_density_is_that_of_scipy(residuals):
    noise = DiagonalNoise(VOXELS)
    noise.fit(residuals, groups(TRIALS))
    reference = scipy.stats.norm(0, residuals.square().mean(0).sqrt().numpy()).logpdf(residuals[:20].numpy()).sum(1)
    np.testing.assert_allclose(noise.log_prob(residuals[:20]).numpy(), reference, rtol=1e-4)


def test_held_out_likelihood_finds_the_planted_number_of_factors(residuals):
    assert choose_factors(residuals, groups(TRIALS), (1, 2, 3, 6, 12), factor_log_prob) == FACTORS


def test_radial_density_integrates_to_one():
    """Importance sampling: the mean of p(x) / q(x) under q is 1 for a normalised p."""
    data = (torch.randn(900, 2) @ torch.randn(2, 6) + torch.randn(900, 6)) * (0.4 * torch.randn(900, 1)).exp()
    noise = RadialFactorNoise(6, 2)
    noise.fit(data, groups(900))
    wide = torch.distributions.MultivariateNormal(torch.zeros(6), noise.covariance())
    student = torch.distributions.Chi2(torch.tensor(4.0)).sample((400_000,))
    draws = wide.sample((400_000,)) / (student / 4).sqrt()[:, None]  # a multivariate t: heavier than p everywhere
    inverse = torch.linalg.inv(noise.covariance())
    distance = ((draws @ inverse) * draws).sum(1)
    log_q = math.lgamma(5) - math.lgamma(2) - 3 * math.log(4 * math.pi) - 0.5 * torch.logdet(noise.covariance()) - 5 * (1 + distance / 4).log()
    assert float((noise.log_prob(draws) - log_q).exp().mean()) == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("coupling", [0.0, 0.7])
def test_radial_density_of_one_factor_in_three_dimensions_by_hand(coupling):
    """log rho ~ N(.5, .3^2); z ~ N(0, 4) at the mean length; the rest is uniform on a circle, whose length is 2 pi rho."""
    noise = RadialFactorNoise(3, 1)
    noise.loadings, noise.uniquenesses = torch.zeros(3, 1), torch.tensor([1.0, 4.0, 9.0])
    noise.basis, noise.spread, noise.radius = torch.tensor([[1.0], [0.0], [0.0]]), torch.tensor([2.0]), torch.tensor([0.5, 0.3])
    noise.coupling = torch.tensor(coupling)
    x = torch.tensor([[1.2, 0.8, -2.1]])
    rho = math.hypot(0.8 / 2, -2.1 / 3)
    by_hand = (
        scipy.stats.norm(0, 2 * (rho / math.exp(0.5)) ** coupling).logpdf(1.2)
        + scipy.stats.norm(0.5, 0.3).logpdf(math.log(rho))
        - math.log(rho)  # d log rho / d rho
        - math.log(2 * math.pi * rho)
        - math.log(2 * 3)  # whitening
    )
    assert float(noise.log_prob(x)) == pytest.approx(by_hand, abs=1e-5)


@pytest.mark.parametrize("kind", ["diagonal", "factors", "factors+radius"])
def test_samples_have_the_covariance_of_the_density(kind, residuals):
    noise = make_noise(kind, VOXELS, None if kind == "diagonal" else FACTORS)
    noise.fit(residuals, groups(TRIALS))
    sampled = noise.sample(60_000)
    covariance = noise.covariance()
    root = covariance.diagonal().sqrt()
    error = (sampled.T @ sampled / len(sampled) - covariance) / root / root[:, None]
    assert float(error.abs().max()) < 0.05
    assert torch.isfinite(sampled).all()


@pytest.mark.parametrize("strength", [0.0, 1.0])
def test_finds_how_much_the_factors_grow_with_the_rest(strength):
    generator = torch.Generator().manual_seed(5)
    stronger = 0.3 * torch.randn(3000, 1, generator=generator)
    factors = torch.randn(3000, FACTORS, generator=generator) * (strength * stronger).exp()
    rest = torch.randn(3000, VOXELS, generator=generator) * stronger.exp()
    noise = RadialFactorNoise(VOXELS, FACTORS)
    noise.fit(factors @ (2 * torch.randn(FACTORS, VOXELS, generator=generator)) + rest, groups(3000))
    seen = 0.3**2 / (0.3**2 + 0.5 / (VOXELS - FACTORS))  # the length of 27 numbers varies by itself as well
    assert float(noise.coupling) == pytest.approx(strength * seen, abs=0.08)


@pytest.mark.parametrize("kind", ["factors", "factors+radius"])
def test_a_density_is_not_surprised_by_new_trials(kind, residuals):
    """With 12 factors of 140 trials, three of them real: new trials are as likely as samples are."""
    noise = make_noise(kind, VOXELS, 12)
    noise.fit(residuals[:140], groups(140))
    torch.manual_seed(0)
    of_samples, of_trials = noise.log_prob(noise.sample(20_000)), noise.log_prob(residuals[140:])
    for level in (0.5, 0.8, 0.95):
        assert float((of_trials > of_samples.quantile(1 - level)).double().mean()) == pytest.approx(level, abs=0.09)


def test_few_groups_leave_the_factors_as_they_were_found(residuals):
    noise = FactorNoise(VOXELS, 2)
    noise.fit(residuals[:40], torch.zeros(40, dtype=torch.long))
    loadings, unique = fit_factors(residuals[:40], 2)
    expected = loadings @ loadings.T + unique.diag()
    error = (noise.covariance() - expected).abs() / expected.diagonal().sqrt() / expected.diagonal().sqrt()[:, None]
    assert float(error.max()) < 0.25  # the spread along the factors is that of the sample, not of the maximised likelihood


def test_a_shared_scale_is_worth_bits_and_its_absence_costs_none(residuals, tailed):
    def gain(data):
        scores = {}
        for kind in ("factors", "factors+radius"):
            noise = make_noise(kind, VOXELS, FACTORS)
            noise.fit(data[:1000], groups(1000))
            scores[kind] = float(noise.log_prob(data[1000:]).mean()) / VOXELS / math.log(2)
        return scores["factors+radius"] - scores["factors"]

    assert gain(tailed) > 0.03
    assert abs(gain(residuals)) < 0.01


def test_the_radius_of_samples_is_that_of_the_data(tailed):
    noise = RadialFactorNoise(VOXELS, FACTORS)
    noise.fit(tailed, groups(TRIALS))
    _, log_rho = noise._coordinates(noise.sample(20_000))
    torch.testing.assert_close(torch.stack([log_rho.mean(), log_rho.std()]), noise.radius, atol=0.02, rtol=0)


def test_too_many_factors_and_dead_voxels_are_clear_errors(residuals):
    with pytest.raises(CortexflowError, match="choose fewer"):
        fit_factors(residuals[:10], 10)
    residuals[:, 4] = 0
    with pytest.raises(CortexflowError, match="1 voxels have no residual variance"):
        fit_factors(residuals, 2)
