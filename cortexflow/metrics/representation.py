r"""Which images are alike to cortex, and whether a model agrees, without matching single voxels.

A representational dissimilarity matrix (RDM) holds one number per pair of images. Only its upper triangle is kept, in the
order (0, 1), (0, 2), …, (1, 2), …: ``scipy.spatial.distance.squareform`` makes it square.
"""

from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from cortexflow.errors import CortexflowError
from cortexflow.metrics.blocks import unit
from cortexflow.metrics.voxelwise import correlation


class CeilingBounds(NamedTuple):
    """Between which scores the best possible model lies, one number per subject; the mean comes last.

    Arguments:
        lower: Agreement of each subject with the mean of the others.
        upper: Agreement of each subject with the mean of all.
    """

    lower: Float[Tensor, " subjects"]
    upper: Float[Tensor, " subjects"]


def rdm(
    patterns: Float[Tensor, "images voxels"],
    kind: Literal["correlation", "euclidean"] = "correlation",
) -> Float[Tensor, " pairs"]:
    """How unlike the patterns of each pair of images are.

    Arguments:
        patterns: One row per image.
        kind: "correlation" is 1 - Pearson's r across voxels, in [0, 2], with r = 0 for a constant pattern; "euclidean" is the
            distance, in the unit of the patterns.

    Returns:
        The upper triangle, images × (images - 1) / 2 numbers.

    Raises:
        CortexflowError: There are fewer than two images.

    Example:
        >>> rdm(torch.tensor([[1.0, 2.0, 3.0], [2.0, 4.0, 6.0], [3.0, 2.0, 1.0]])).round(decimals=4)
        tensor([0., 2., 2.])
    """
    images = len(patterns)
    if images < 2:
        raise CortexflowError(f"a pair needs at least 2 images, {images} came; hold out more images")
    if kind == "euclidean":
        return torch.pdist(patterns.double()).to(patterns.dtype)
    rows = unit(patterns, 1)
    first, second = torch.triu_indices(images, images, offset=1, device=patterns.device)
    return (1 - (rows @ rows.T)[first, second]).clamp(0, 2).to(patterns.dtype)


def compare_rdms(
    a: Float[Tensor, " pairs"],
    b: Float[Tensor, " pairs"],
    kind: Literal["spearman", "pearson"] = "spearman",
) -> Float[Tensor, ""]:
    """The correlation of two RDMs over pairs of images.

    Arguments:
        a: The upper triangle of one.
        b: The upper triangle of the other, the same images in the same order.
        kind: "spearman" compares ranks (ties get their mean rank), "pearson" the numbers.

    Returns:
        The agreement, in [-1, 1]; 0 where one is constant. Pairs are not independent: bootstrap over images, not over pairs.

    Raises:
        CortexflowError: The two do not match, or there are fewer than two pairs.

    Example:
        >>> compare_rdms(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1.0, 4.0, 9.0]))
        tensor(1.)
    """
    x, y = (ranks(a), ranks(b)) if kind == "spearman" else (a, b)
    return correlation(x[:, None], y[:, None])[0].to(a.dtype)


def ranks(values: Float[Tensor, " pairs"]) -> Float[Tensor, " pairs"]:
    """The rank of each value, 1 for the smallest; equal values get the mean of their ranks. In double precision.

    Example:
        >>> ranks(torch.tensor([5.0, 1.0, 5.0])).tolist()
        [2.5, 1.0, 2.5]
    """
    _, place, counts = torch.unique(values, return_inverse=True, return_counts=True)
    return (counts.cumsum(0).double() - (counts.double() - 1) / 2)[place]


def rsa_noise_ceiling(rdms: Float[Tensor, "subjects pairs"]) -> CeilingBounds:
    """How well the best possible model could agree with these subjects, by Spearman's rank correlation.

    Each RDM is turned into ranks and these are averaged. The mean of all subjects, ranked, has the highest mean agreement that
    any RDM can have, but it has seen the subject it is compared with: an upper bound. The mean of the others has not, and is
    noisier than the truth: a lower bound.

    Arguments:
        rdms: The upper triangle of each subject's RDM, the same images in the same order.

    Returns:
        The bounds for each subject, in [-1, 1].

    Raises:
        CortexflowError: There is a single subject.

    References:
        A toolbox for representational similarity analysis (Nili et al., 2014).
    """
    subjects = len(rdms)
    if subjects < 2:
        raise CortexflowError(f"a ceiling across subjects needs at least 2 of them, {subjects} came; use repeats of one subject instead")
    ranked = torch.stack([ranks(one) for one in rdms])
    total = ranked.sum(0)
    lower = torch.stack([compare_rdms(one, (total - one) / (subjects - 1)) for one in ranked])
    upper = torch.stack([compare_rdms(one, total / subjects) for one in ranked])
    return CeilingBounds(lower.to(rdms.dtype), upper.to(rdms.dtype))


def linear_cka(x: Float[Tensor, "images features"], y: Float[Tensor, "images voxels"]) -> Float[Tensor, ""]:
    r"""Linear centred kernel alignment: whether two spaces arrange the same images alike.

    .. math:: \frac{\| Y^\top X \|_F^2}{\| X^\top X \|_F \, \| Y^\top Y \|_F}

    with centred columns; it does not change when a space is rotated, shifted or scaled as a whole. With more columns than
    images it is biased upwards, towards 1 even for unrelated spaces, and no correction is made here: report beside it the
    value for shuffled images.

    Arguments:
        x: One row per image, any number of columns.
        y: The same images, any number of columns.

    Returns:
        The alignment, in [0, 1]; 0 where a space is constant.

    Raises:
        CortexflowError: The images do not match, or there are fewer than two.

    References:
        Similarity of neural network representations revisited (Kornblith et al., 2019).

    Example:
        >>> linear_cka(torch.tensor([[0.0], [1.0], [2.0]]), torch.tensor([[5.0, 0.0], [7.0, 0.0], [9.0, 0.0]]))
        tensor(1.)
    """
    if len(x) != len(y) or len(x) < 2:
        raise CortexflowError(f"the spaces have {len(x)} and {len(y)} images; give the same images in both, at least 2")
    a, b = (space.double() - space.double().mean(0) for space in (x, y))
    if max(a.shape[1], b.shape[1]) <= len(a):
        shared, own, other = (b.T @ a).square().sum(), (a.T @ a).norm(), (b.T @ b).norm()
    else:  # images × images is smaller
        k, h = a @ a.T, b @ b.T
        shared, own, other = (k * h).sum(), k.norm(), h.norm()
    empty = _constant_space(x) or _constant_space(y)
    return (shared * 0 if empty else (shared / (own * other)).clamp(0, 1)).to(x.dtype)


def _constant_space(space: Tensor) -> bool:
    return bool((space.amax(0) == space.amin(0)).all())
