"""Bayes' rule through an encoder: closed forms where there are some, and better than matching patterns."""

import pytest
import torch

from cortexflow.decoding.bayes import BayesianDecoder
from cortexflow.encoding.flow import FlowEncoder
from cortexflow.encoding.ridge import RidgeEncoder
from cortexflow.errors import CortexflowError

IMAGES, REPEATS, FEATURES, VOXELS = 200, 3, 6, 40


def trials(seed=0, strength=0.0):
    generator = torch.Generator().manual_seed(seed)
    fixed = torch.Generator().manual_seed(9)
    weights, loadings = 0.25 * torch.randn(FEATURES, VOXELS, generator=fixed), torch.randn(3, VOXELS, generator=fixed)
    pictures, stimuli = torch.randn(IMAGES, FEATURES, generator=generator), torch.arange(IMAGES).repeat(REPEATS)
    scale = (strength * torch.randn(len(stimuli), 1, generator=generator)).exp()
    noise = torch.randn(len(stimuli), 3, generator=generator) @ loadings + torch.randn(len(stimuli), VOXELS, generator=generator)
    return pictures, pictures[stimuli] @ weights + scale * noise, stimuli


def fitted(kind, strength=0.0):
    pictures, responses, stimuli = trials(strength=strength)
    encoder = RidgeEncoder(FEATURES, VOXELS, RidgeEncoder.Config(noise="factors", factors=3)) if kind == "ridge" else FlowEncoder(FEATURES, VOXELS)
    encoder.solve(pictures[stimuli], responses, stimuli)
    return encoder, pictures


def test_the_start_is_the_posterior_mean_of_a_linear_gaussian_encoder():
    encoder, pictures = fitted("ridge")
    decoder = BayesianDecoder(encoder, pictures, temperature=1.5)
    _, responses, stimuli = trials(seed=1)
    found = decoder.start(responses, stimuli)
    noise = encoder.noise.covariance().double()
    prior = torch.linalg.inv(decoder.precision)
    slope = encoder.weights.double().T
    for picture in range(5):
        mean = (responses[stimuli == picture] - encoder.predict(decoder.mean[None])).double().mean(0)
        together = slope @ prior @ slope.T + 1.5 * noise / REPEATS  # covariance of a mean of trials
        expected = decoder.mean + prior @ slope.T @ torch.linalg.solve(together, mean)
        torch.testing.assert_close(found[picture], expected.float(), atol=0.12, rtol=0.1)  # the noise is known by 1,000 draws


def test_the_summit_of_a_gaussian_posterior_is_its_mean():
    encoder, pictures = fitted("ridge")
    decoder = BayesianDecoder(encoder, pictures)
    _, responses, stimuli = trials(seed=1)
    start, summit = decoder.start(responses, stimuli), decoder.most_likely(responses, stimuli)
    row = stimuli
    gained = decoder._posterior(summit, responses, row) - decoder._posterior(start, responses, row)
    assert float(gained.min()) >= 0
    assert float((summit - start).norm() / (start - decoder.mean).norm()) < 0.1


def test_evidence_is_a_posterior_over_the_gallery_and_trials_add_up():
    encoder, pictures = fitted("ridge")
    decoder = BayesianDecoder(encoder, pictures, temperature=2.0)
    gallery, responses, stimuli = trials(seed=1)
    evidence = decoder.evidence(responses, stimuli, gallery[:30])
    assert evidence.shape == (IMAGES, 30)
    torch.testing.assert_close(evidence.exp().sum(1), torch.ones(IMAGES, dtype=torch.float64))
    rows = stimuli == 7
    by_hand = torch.stack([sum(encoder.log_prob(one[None], responses[rows][i : i + 1])[0] for i in range(REPEATS)) for one in gallery[:30]])
    torch.testing.assert_close(evidence[7], torch.log_softmax(by_hand.double() / 2, 0), atol=1e-3, rtol=1e-4)


def test_more_trials_tell_more_and_likelihood_tells_more_than_matching():
    encoder, pictures = fitted("ridge")
    decoder = BayesianDecoder(encoder, pictures)
    gallery, responses, stimuli = trials(seed=1)
    truth = torch.arange(IMAGES)
    top = {}
    for count in (1, 3):
        rows = torch.arange(len(stimuli)) < count * IMAGES
        top[count] = float((decoder.evidence(responses[rows], stimuli[rows], gallery).argmax(1) == truth).double().mean())
    predicted = encoder.predict(gallery)
    z = [(values - values.mean(1, keepdim=True)) / values.std(1, keepdim=True) for values in (responses[:IMAGES], predicted)]
    matching = float(((z[0] @ z[1].T).argmax(1) == truth).double().mean())
    assert top[3] > top[1] > 2 * matching > 2 / IMAGES


def test_the_summit_under_a_flow_is_nearer_to_the_truth_than_the_mean_picture():
    encoder, pictures = fitted("flow", strength=0.4)
    decoder = BayesianDecoder(encoder, pictures)
    shown, responses, stimuli = trials(seed=1, strength=0.4)
    start, summit = decoder.start(responses, stimuli), decoder.most_likely(responses, stimuli)
    errors = [float((found - shown).square().sum(1).mean()) for found in (decoder.mean.expand_as(shown), start, summit)]
    assert errors[0] > 1.5 * errors[1] and errors[2] < 1.05 * errors[1]


def test_what_does_not_fit_is_a_clear_error():
    encoder, pictures = fitted("ridge")
    with pytest.raises(CortexflowError, match="of the encoder's 6 features"):
        BayesianDecoder(encoder, pictures[:, :4])
    with pytest.raises(CortexflowError, match="above 0"):
        BayesianDecoder(encoder, pictures, temperature=0.0)
