r"""Ridge regression for thousands of targets: one factorisation serves every target and every penalty.

Ridge is :math:`W = (X^T X + \alpha I)^{-1} X^T Y` on centred data. With the thin singular value decomposition
:math:`X = V \Lambda^{1/2} Q^T` of the trials that are trained on, the prediction for held-out trials is

.. math:: \hat Y = U \, \mathrm{diag}\!\left(\tfrac{\lambda}{\lambda + \alpha}\right) C, \qquad
    U = X_\mathrm{held} Q \Lambda^{-1/2}, \quad C = V^T Y = \Lambda^{-1/2} Q^T X^T Y

so the penalty only enters through one filter per direction. :math:`\Lambda` comes from an eigendecomposition in float64 of the
Gram matrix of the features (primal) or of the trials (dual), whichever is smaller; products with targets are float32.

Folds are made of whole groups (pictures), and every mean is that of the trials that are trained on.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from cortexflow.errors import CortexflowError

NOISE = 1e-6  # rounding that errors summed over pairs may have, as a share of the target's variance
TIE = 1e-5  # penalties nearer than this to the best one are compared by their predictions
Progress = Callable[[int, int], None]  # called with the targets done and the targets there are


@dataclass(frozen=True)
class RidgeFit:
    """A ridge regression and how well it predicted trials that it had not seen.

    Arguments:
        weights: One column per target, in units of the target per unit of the feature.
        intercept: The prediction for a row of zeros.
        penalties: The penalty chosen for each target; one row per level where levels have their own.
        scores: Correlation between prediction and target on held-out groups at the chosen penalty, in [-1, 1]: the mean
            over folds of the correlation within the fold. Zero where a target or its prediction is constant.
        held_out: Prediction of each trial by the fold that did not train on its group, if asked for.
    """

    weights: Float[Tensor, "features targets"]
    intercept: Float[Tensor, " targets"]
    penalties: Float[Tensor, "*levels targets"]
    scores: Float[Tensor, " targets"]
    held_out: Float[Tensor, "trials targets"] | None = None

    def predict(self, features: Float[Tensor, "batch features"]) -> Float[Tensor, "batch targets"]:
        """The expected targets."""
        return torch.addmm(self.intercept, features.to(self.weights), self.weights)


def fold_of(groups: Int[Tensor, " trials"], folds: int, seed: int = 0) -> Int[Tensor, " trials"]:
    """The fold of each trial: whole groups, and nearly as many trials in every fold.

    Groups are shuffled, then the largest come first and each joins the fold that has the fewest trials so far.

    Arguments:
        groups: What must stay together, usually the picture.
        folds: How many folds, at least 2.
        seed: Equal seeds give equal folds.

    Raises:
        CortexflowError: Fewer groups than folds, or fewer than two folds.

    Example:
        >>> fold_of(torch.tensor([7, 7, 7, 3, 3, 3]), folds=2).unique_consecutive().numel()
        2
    """
    labels, member, sizes = np.unique(groups.cpu().numpy(), return_inverse=True, return_counts=True)
    if folds < 2:
        raise CortexflowError(f"cross-validation needs at least 2 folds, {folds} were asked; ask for 2 or more")
    if len(labels) < folds:
        raise CortexflowError(f"{folds} folds need {folds} groups of trials, there are {len(labels)}; ask for fewer folds or give more pictures")
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    filled, assigned = np.zeros(folds, dtype=np.int64), np.empty(len(labels), dtype=np.int64)
    for group in shuffled[np.argsort(-sizes[shuffled], kind="stable")]:
        assigned[group] = filled.argmin()
        filled[assigned[group]] += sizes[group]
    return torch.from_numpy(assigned[member.reshape(-1)])


@torch.no_grad()
def ridge_cv(
    features: Float[Tensor, "trials features"],
    targets: Float[Tensor, "trials targets"],
    groups: Int[Tensor, " trials"],
    penalties: Sequence[float] | Float[Tensor, " penalties"],
    *,
    folds: int = 5,
    pool: Int[Tensor, " targets"] | None = None,
    held_out: bool = False,
    block: int = 2048,
    seed: int = 0,
    progress: Progress | None = None,
) -> RidgeFit:
    """Ridge with the penalty of each target chosen on held-out groups, by the mean over folds of the squared error.

    Arguments:
        features: One row per trial; nothing is standardised here.
        targets: One row per trial. May be memory-mapped: it is read in blocks of columns.
        groups: What must not be split between folds, usually the picture.
        penalties: The candidates, all positive, in units of a squared feature times trials. A single one is taken as it is.
        folds: How many folds the groups are dealt into, by :func:`fold_of`.
        pool: A label per target; targets of one label share the penalty with the smallest sum of errors over variance.
        held_out: Also return the prediction of each trial by the fold that did not train on it.
        block: Targets worked on at a time; memory grows with it, the answer does not depend on it.
        seed: Of the folds.
        progress: Called with the number of targets done and the number there are.

    Raises:
        CortexflowError: Shapes disagree, a value is not finite, a penalty is not positive, or there are too few groups.

    References:
        Feature-space selection with banded ridge regression (Dupré la Tour et al., 2022).
    """
    candidates = _checked(features, targets, groups, penalties, block)
    if pool is not None and len(pool) != targets.shape[1]:
        raise CortexflowError(f"pool has {len(pool)} labels for {targets.shape[1]} targets; give one label per target")
    data = _Factorised(features, fold_of(groups, folds, seed), candidates)
    answer = _Answer.empty(features, targets, held_out)
    shared = candidates.expand(targets.shape[1]) if len(candidates) == 1 else None
    if pool is not None and shared is None:
        shared = _pooled(data, targets, candidates, pool, block)
    for columns in _blocks(targets.shape[1], block):
        part = data.project(targets[:, columns])
        chosen = shared[columns] if shared is not None else candidates[data.errors(part, candidates).argmin(0)]
        answer.write(columns, data, part, chosen)
        if progress is not None:
            progress(columns.stop, targets.shape[1])
    return answer.fit()


@torch.no_grad()
def banded_ridge_cv(
    features: Float[Tensor, "trials features"],
    targets: Float[Tensor, "trials targets"],
    groups: Int[Tensor, " trials"],
    levels: Sequence[int],
    penalties: Sequence[float] | Float[Tensor, " penalties"],
    *,
    candidates: int | Float[Tensor, "candidates levels"] = 20,
    folds: int = 5,
    held_out: bool = False,
    block: int = 2048,
    seed: int = 0,
    progress: Progress | None = None,
) -> RidgeFit:
    r"""Ridge with one penalty per feature level, chosen for each target by random search on held-out groups.

    Each candidate shares the regression out among the levels, :math:`\gamma` on the simplex; level :math:`k` then has penalty
    :math:`\alpha / \gamma_k`. The first candidate gives every level the same share and is :func:`ridge_cv`, up to the scale of
    the penalty.

    Arguments:
        features: One row per trial, levels side by side.
        targets: One row per trial, read in blocks of columns.
        groups: What must not be split between folds, usually the picture.
        levels: Number of features of each level, in order.
        penalties: The candidates for :math:`\alpha`, all positive.
        candidates: How many ways of sharing to try, or the shares themselves: positive, one row per candidate.
        folds: How many folds the groups are dealt into, by :func:`fold_of`.
        held_out: Also return the prediction of each trial by the fold that did not train on it.
        block: Targets worked on at a time.
        seed: Of the folds and of the shares.
        progress: Called with the number of candidates tried and the number there are.

    Raises:
        CortexflowError: As :func:`ridge_cv`, or the levels do not sum to the features, or a share is not positive.

    References:
        Feature-space selection with banded ridge regression (Dupré la Tour et al., 2022).
    """
    alphas = _checked(features, targets, groups, penalties, block)
    shares = _shares(candidates, levels, features.shape[1], seed).to(alphas)
    fold, count = fold_of(groups, folds, seed), targets.shape[1]
    scales = shares.sqrt().repeat_interleave(torch.tensor(levels, device=shares.device), dim=1).to(features)
    best = torch.full((count,), torch.inf, dtype=torch.float64, device=features.device)
    chosen, alpha = torch.zeros(count, dtype=torch.long, device=features.device), torch.zeros_like(best)
    for candidate, scale in enumerate(scales):
        data = _Factorised(features * scale, fold, alphas)
        for columns in _blocks(count, block):
            error, which = data.errors(data.project(targets[:, columns]), alphas).min(0)
            better = error < best[columns]
            best[columns] = torch.where(better, error, best[columns])
            alpha[columns] = torch.where(better, alphas[which], alpha[columns])
            chosen[columns] = torch.where(better, candidate, chosen[columns])
        if progress is not None:
            progress(candidate + 1, len(scales))
    answer = _Answer.empty(features, targets, held_out)
    for candidate in chosen.unique().tolist():
        data = _Factorised(features * scales[candidate], fold)
        for picked in (chosen == candidate).nonzero().squeeze(1).split(block):
            answer.write(picked, data, data.project(targets[:, picked.to(targets.device)]), alpha[picked])
            answer.weights[:, picked] *= scales[candidate, :, None]
    answer.penalties = (alpha / shares[chosen].T).float()
    return answer.fit()


@dataclass(frozen=True)
class DualRidge:
    r"""Ridge for more targets than anyone wants weights of: :math:`\hat Y = X_* X^T (X X^T + \alpha I)^{-1} Y`.

    Only a factor of the Gram matrix of the trials is kept; a prediction is a mixture of the training targets, which may be
    memory-mapped and are read in blocks. Choose the penalty with :func:`ridge_cv` on some of the targets.

    Arguments:
        features: Of the training trials, centred.
        mean: That was subtracted.
        factor: Cholesky factor of the Gram matrix with the penalty on its diagonal, float64.
        targets: Of the training trials, as they came.
    """

    features: Float[Tensor, "trials features"]
    mean: Float[Tensor, " features"]
    factor: Float[Tensor, "trials trials"]
    targets: Float[Tensor, "trials targets"]

    @classmethod
    def fit(cls, features: Float[Tensor, "trials features"], targets: Float[Tensor, "trials targets"], penalty: float) -> "DualRidge":
        """Factorise once; the cost does not depend on the number of targets.

        Raises:
            CortexflowError: Shapes disagree, a feature is not finite, or the penalty is not positive.
        """
        _checked(features, targets, targets, [penalty], 1)
        features = _single(features)
        mean = features.mean(0, dtype=torch.float64)
        centred = (features - mean.to(features)).float()
        gram = _gram(centred.T)
        rows = gram.mean(0)
        gram.sub_(rows).sub_(rows[:, None]).add_(rows.mean())
        gram.diagonal().add_(penalty)
        factor, failed = torch.linalg.cholesky_ex(gram)
        if failed:
            raise CortexflowError(f"a penalty of {penalty} is too small for repeated or collinear features; raise it")
        return cls(centred, mean.float(), factor, targets)

    def mixture(self, features: Float[Tensor, "batch features"]) -> Float[Tensor, "batch trials"]:
        """The share of each training trial in each prediction; the rows sum to one."""
        cross = (features - self.mean).to(self.features) @ self.features.T
        shares = torch.cholesky_solve((cross - cross.mean(1, keepdim=True)).T.double(), self.factor).T
        return (shares - shares.mean(1, keepdim=True) + 1 / len(self.features)).float()

    def stream(self, features: Float[Tensor, "batch features"], block: int = 2048) -> Iterator[tuple[slice, Tensor]]:
        """Predictions, a block of targets at a time."""
        shares = self.mixture(features)
        for columns in _blocks(self.targets.shape[1], block):
            targets = _single(self.targets[:, columns].to(shares.device))
            mean = targets.mean(0, dtype=torch.float64).to(targets)
            _finite(mean)
            yield columns, shares @ (targets - mean).float() + mean.float()

    def predict(self, features: Float[Tensor, "batch features"], block: int = 2048) -> Float[Tensor, "batch targets"]:
        """The expected targets."""
        answer = torch.empty(len(features), self.targets.shape[1], dtype=torch.float32, device=self.features.device)
        for columns, predicted in self.stream(features, block):
            answer[:, columns] = predicted
        return answer

    def weights(self, columns: slice) -> Float[Tensor, "features targets"]:
        """The weights of some of the targets, for their norms or patterns."""
        targets = self.targets[:, columns].to(self.features.device).double()
        return self.features.T @ torch.cholesky_solve(targets - targets.mean(0), self.factor).float()


def _shares(candidates: int | Tensor, levels: Sequence[int], features: int, seed: int) -> Tensor:
    if sum(levels) != features:
        raise CortexflowError(
            f"levels {list(levels)} sum to {sum(levels)}, there are {features} features; pass the sizes of the levels that were joined"
        )
    if isinstance(candidates, int):
        random = np.random.default_rng(seed)
        drawn = [random.dirichlet(np.full(len(levels), (0.1, 1.0)[i % 2])) for i in range(candidates - 1)]  # sparse and even in turn
        shares = torch.from_numpy(np.stack([np.full(len(levels), 1 / len(levels)), *drawn])).clamp(min=1e-5)
    else:
        shares = candidates.double()
    if shares.ndim != 2 or shares.shape[1] != len(levels) or not (shares > 0).all():
        raise CortexflowError(f"candidates must be positive shares, one column for each of {len(levels)} levels; mend or give their number")
    return shares


@dataclass
class _Part:
    """A block of targets as the factorisation sees it: rows sorted by fold, columns centred."""

    mean: Tensor  # of all trials, float64
    targets: Tensor
    seen: list[Tensor]  # C of each fold, then that of all trials
    train_means: list[Tensor]

    def only(self, columns: Tensor) -> "_Part":
        """Some of the targets."""
        seen, means = [values[:, columns] for values in self.seen], [mean[columns] for mean in self.train_means]
        return _Part(self.mean[columns], self.targets[:, columns], seen, means)


@dataclass
class _Pairs:
    r"""The squared norm of the held-out prediction as sums over directions, for all penalties at the price of one product.

    With :math:`f_i = \lambda_i / (\lambda_i + \alpha)` and :math:`G = U^T U`, the norm is :math:`\sum_{ij} G_{ij} f_i f_j c_i c_j`,
    which would need a product with G for every penalty. But partial fractions separate the two filters:

    .. math:: f_i f_j = \frac{\lambda_j f_i - \lambda_i f_j}{\lambda_j - \lambda_i}

    so that the sum over :math:`i \ne j` is :math:`\sum_i f_i c_i (L c)_i` with :math:`L_{ij} = 2 G_{ij} \lambda_j / (\lambda_j - \lambda_i)`
    known to no penalty. Pairs of nearly equal eigenvalues, where this would cancel, are few and are summed as they are.
    """

    apart: Tensor  # L, zero where eigenvalues are close
    power: Tensor  # the diagonal of G
    first: Tensor  # the close pairs, each once
    second: Tensor
    weight: Tensor  # twice their entry in G

    @classmethod
    def of(cls, values: Tensor, test: Tensor, close: float = 1e-3, rows: int = 512) -> "_Pairs":
        """Build L a few rows at a time. ``close`` trades the number of close pairs for the cancellation between the others."""
        apart, near, weight = test.new_empty(len(values), len(values)), [], []
        for some in torch.arange(len(values), device=values.device).split(rows):
            gram = 2 * test[:, some].double().T @ test.double()
            gap = values - values[some, None]
            equal = gap.abs() <= close * torch.maximum(values, values[some, None])
            apart[some] = torch.where(equal, 0.0, gram * values / gap).float()
            i, j = torch.where(equal.triu(int(some[0]) + 1))
            near.append(torch.stack([some[i], j]))
            weight.append(gram[i, j])
        first, second = torch.cat(near, dim=1)
        return cls(apart, test.square().sum(0), first, second, torch.cat(weight).float())

    def noise(self, kept: Tensor, trials: int) -> float:
        """Expected rounding error of a mean squared error over the variance of the target, at the worst penalty."""
        spread = kept.square().T @ self.apart.square().sum(1)
        return float(spread.max().sqrt()) * torch.finfo(kept.dtype).eps / trials

    def norms(self, seen: Tensor, kept: Tensor, truth: Tensor) -> Tensor:
        """Squared norm of the prediction less twice its product with ``truth`` (in directions, overwritten), penalties × targets."""
        total = kept.T @ truth.addmm_(self.apart, seen, beta=-2).mul_(seen)
        total += (self.power[:, None] * kept.square()).T @ seen.square()
        return total + (self.weight[:, None] * kept[self.first] * kept[self.second]).T @ (seen[self.first] * seen[self.second])


@dataclass
class _Fold:
    """What the trials outside of ``held`` say of the features."""

    held: slice
    values: Tensor  # eigenvalues, float64
    basis: Tensor  # takes features (primal) or trials (dual) to directions
    mean: Tensor  # of the features over the trials trained on, which the dual needs not
    test: Tensor  # U: held-out trials along the directions
    pairs: _Pairs | None = None

    def filters(self, penalties: Tensor) -> Tensor:
        """Share of each direction that a penalty leaves, directions × penalties."""
        values = self.values.float()[:, None]
        return values / (values + penalties.to(values))

    def pair(self, penalties: Tensor) -> None:
        """Prepare the cheap errors, where they are cheaper and exact enough."""
        trials, size = self.test.shape
        if size and len(penalties) > 1 and len(penalties) * trials > size + trials:
            pairs = _Pairs.of(self.values, self.test)
            few = len(pairs.first) <= 4 * size
            self.pairs = pairs if few and pairs.noise(self.filters(penalties), trials) < NOISE else None

    def errors(self, seen: Tensor, truth: Tensor, penalties: Tensor, cheap: bool) -> Tensor:
        """Mean squared error on held-out trials, penalties × targets."""
        kept = self.filters(penalties)
        if cheap and self.pairs is not None:
            norms = self.pairs.norms(seen, kept, self.test.T @ truth)
            return (truth.square().sum(0) + norms).double() / len(truth)
        rows = [(truth - (self.test * some) @ seen).square().mean(0) for some in kept.T]
        return torch.stack(rows).double()


class _Factorised:
    """Centred features, sorted by fold, with one spectrum per fold and one of all trials (which holds out nothing)."""

    def __init__(self, features: Tensor, fold: Tensor, penalties: Tensor | None = None) -> None:
        self.order = torch.argsort(fold, stable=True).to(features.device)
        features = _single(features)
        self.mean = features.mean(0, dtype=torch.float64)
        self.features = (features - self.mean.to(features)).float()[self.order]  # what rounding leaves of the mean goes with each fold's
        trials, size = features.shape
        sizes = torch.bincount(fold).tolist()
        stops = np.cumsum(sizes).tolist()
        held = [slice(stop - count, stop) for stop, count in zip(stops, sizes, strict=True)] + [slice(trials, trials)]
        self.primal = size <= trials - max(sizes)
        gram = _gram(self.features if self.primal else self.features.T)

        def learn(rows: slice) -> _Fold:
            fold = self._primal(gram, rows) if self.primal else self._dual(gram, rows)
            if penalties is not None and len(fold.test):
                fold.pair(penalties)
            return fold

        self.folds = _on_all_cores(learn, held, len(gram))

    def _primal(self, gram: Tensor, held: slice) -> _Fold:
        test = self.features[held].double()
        count = len(self.features) - len(test)
        mean = (self.features.sum(0, dtype=torch.float64) - test.sum(0)) / count
        values, vectors = _eigen(gram - test.T @ test - count * torch.outer(mean, mean))
        basis = vectors / values.sqrt()
        return _Fold(held, values, basis.float(), mean.float(), ((test - mean) @ basis).float())

    def _dual(self, gram: Tensor, held: slice) -> _Fold:
        train = torch.ones(len(gram), dtype=torch.bool, device=gram.device)
        train[held] = False
        between, gram = gram[held][:, train], gram[train][:, train]
        rows = gram.mean(0)
        values, vectors = _eigen(gram.sub_(rows).sub_(rows[:, None]).add_(rows.mean()))
        test = ((between - rows) @ vectors) / values
        return _Fold(held, values, vectors.float(), self.features.new_empty(0), test.float())

    def project(self, targets: Tensor) -> _Part:
        """Read a block of targets and take it to the directions of every fold."""
        targets = _single(targets.to(self.features.device))
        mean = targets.mean(0)
        centred = (targets - mean).float()[self.order]
        left = centred.sum(0)  # what rounding left of the mean
        exact = mean.double() + left.double() / len(centred)
        _finite(exact)
        means = [(left - centred[fold.held].sum(0)) / (len(centred) - len(fold.test)) for fold in self.folds]
        seen = self._seen_primal(centred, means) if self.primal else [self._seen_dual(centred, fold) for fold in self.folds]
        return _Part(exact, centred, seen, means)

    def _seen_primal(self, targets: Tensor, means: list[Tensor]) -> list[Tensor]:
        crossed = [self.features[fold.held].T @ targets[fold.held] for fold in self.folds[:-1]]
        total, seen = sum(crossed[1:], start=crossed[0].clone()), []
        for fold, held, mean in zip(self.folds, [*crossed, None], means, strict=True):
            train = total if held is None else torch.sub(total, held, out=held)
            seen.append(fold.basis.T @ train.addr_(fold.mean, mean, alpha=len(fold.test) - len(targets)))
        return seen

    def _seen_dual(self, targets: Tensor, fold: _Fold) -> Tensor:
        start, count = fold.held.start, len(fold.test)  # the basis is orthogonal to a constant: no mean to subtract
        return fold.basis[:start].T @ targets[:start] + fold.basis[start:].T @ targets[start + count :]

    def errors(self, part: _Part, penalties: Tensor) -> Tensor:
        """Mean over folds of the mean squared error on held-out trials, penalties × targets."""
        errors = self._errors(part, penalties, cheap=True)
        if any(fold.pairs is not None for fold in self.folds):
            best, second = errors.topk(2, dim=0, largest=False).values
            scale = torch.maximum(best, part.targets.square().mean(0))
            tied = (second - best < TIE * scale).nonzero().squeeze(1)  # too near to call by the cheap way
            errors[:, tied] = self._errors(part.only(tied), penalties, cheap=False)
        return errors

    def _errors(self, part: _Part, penalties: Tensor, cheap: bool) -> Tensor:
        folds = list(zip(self.folds[:-1], part.seen, part.train_means, strict=False))
        errors = [fold.errors(seen, part.targets[fold.held] - mean, penalties, cheap) for fold, seen, mean in folds]
        return torch.stack(errors).mean(0)

    def held_out(self, part: _Part, chosen: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """Rows of each fold and their predictions, without the mean of all trials, at one penalty per target."""
        for fold, seen, mean in zip(self.folds[:-1], part.seen, part.train_means, strict=False):
            yield fold.held, torch.addmm(mean, fold.test, fold.filters(chosen).mul_(seen))

    def solve(self, part: _Part, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """Weights and intercept from all trials at one penalty per target."""
        fold = self.folds[-1]
        kept = fold.filters(chosen).mul_(part.seen[-1])
        weights = fold.basis @ kept if self.primal else self.features.T @ (fold.basis @ (kept / fold.values.float()[:, None]))
        return weights, part.mean - self.mean @ weights.double()


@dataclass
class _Answer:
    """A :class:`RidgeFit` that is being filled, block by block."""

    weights: Tensor
    intercept: Tensor
    penalties: Tensor
    scores: Tensor
    held_out: Tensor | None

    @classmethod
    def empty(cls, features: Tensor, targets: Tensor, held_out: bool) -> "_Answer":
        trials, count = targets.shape
        weights = torch.empty(features.shape[1], count, device=features.device)
        predicted = torch.empty(trials, count, device=features.device) if held_out else None
        return cls(weights, weights.new_empty(count), weights.new_empty(count), weights.new_empty(count), predicted)

    def write(self, columns: slice | Tensor, data: "_Factorised", part: _Part, chosen: Tensor) -> None:
        self.penalties[columns] = chosen.float()
        self.weights[:, columns], intercept = data.solve(part, chosen)
        self.intercept[columns] = intercept.float()
        rows, predicted = zip(*data.held_out(part, chosen), strict=True)
        scores = [_correlation(guess, part.targets[held]) for held, guess in zip(rows, predicted, strict=True)]
        self.scores[columns] = torch.stack(scores).mean(0)
        if self.held_out is not None:
            self.held_out[:, columns] = torch.cat(predicted)[data.order.argsort()] + part.mean.float()

    def fit(self) -> RidgeFit:
        return RidgeFit(self.weights, self.intercept, self.penalties, self.scores, self.held_out)


def _pooled(data: _Factorised, targets: Tensor, penalties: Tensor, pool: Tensor, block: int) -> Tensor:
    labels, member = torch.unique(pool, return_inverse=True)
    total = torch.zeros(len(penalties), len(labels), dtype=torch.float64, device=data.mean.device)
    member = member.to(total.device)
    for columns in _blocks(targets.shape[1], block):
        part = data.project(targets[:, columns])
        variance = part.targets.double().square().mean(0)
        errors = data.errors(part, penalties) / torch.where(variance > 0, variance, torch.inf)  # a constant target has no say
        total.index_add_(1, member[columns], errors)
    return penalties[total.argmin(0)][member]


def _gram(matrix: Tensor, rows: int = 1024, columns: int = 2048) -> Tensor:
    """``matrix.T @ matrix`` in float64, in pieces: no float64 copy of the matrix, and only the lower half is multiplied out."""
    size = matrix.shape[1]
    total = torch.zeros(size, size, dtype=torch.float64, device=matrix.device)
    for some in matrix.split(rows):
        exact = some.double()
        for start in range(0, size, columns):
            total[start:, start : start + columns].addmm_(exact[:, start:].T, exact[:, start : start + columns])
    for part in _blocks(size, columns):
        total[part, part.stop :] = total[part.stop :, part].T
    return total


def _eigen(gram: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues and vectors without the null directions, which repeated or constant rows leave and no target has a part in."""
    values, vectors = torch.linalg.eigh(gram)
    kept = values > values[-1].clamp(min=torch.finfo(values.dtype).tiny) * len(values) * torch.finfo(values.dtype).eps
    return values[kept], vectors[:, kept]


def _on_all_cores(work: Callable[[slice], _Fold], folds: list[slice], size: int) -> list[_Fold]:
    """One fold per core: the cores wait for each other once, not at every step of every eigendecomposition."""
    threads = torch.get_num_threads()
    if threads == 1 or size > 4096:  # a matrix that large keeps all cores busy, and two would take the memory of two
        return [work(rows) for rows in folds]
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(threads) as pool:
            return list(pool.map(work, folds))
    finally:
        torch.set_num_threads(threads)


def _correlation(first: Tensor, second: Tensor) -> Tensor:
    first, second = first - first.mean(0), second - second.mean(0)
    norm = (first.square().sum(0) * second.square().sum(0)).sqrt()
    return torch.where(norm > 0, (first * second).sum(0) / norm, 0.0).clamp(-1, 1)


def _finite(means: Tensor) -> None:
    if not torch.isfinite(means).all():
        raise CortexflowError(f"{int((~torch.isfinite(means)).sum())} targets hold NaN or infinite values; remove those columns or trials")


def _single(values: Tensor) -> Tensor:
    """At least float32, so that a mean can be subtracted without loss."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def _blocks(count: int, block: int) -> Iterator[slice]:
    return (slice(start, min(start + block, count)) for start in range(0, count, block))


def _checked(features: Tensor, targets: Tensor, groups: Tensor, penalties: Sequence[float] | Tensor, block: int) -> Tensor:
    """The penalties as a tensor, if everything is as it should be."""
    rows = (len(features), len(targets), len(groups))
    if len(set(rows)) > 1:
        raise CortexflowError(f"features, targets and groups have {rows[0]}, {rows[1]} and {rows[2]} rows; give one row per trial in each")
    if not torch.isfinite(features).all():
        raise CortexflowError("features hold NaN or infinite values; remove those trials or columns")
    if block < 1:
        raise CortexflowError(f"block must be at least 1 target, it is {block}; leave it at its default")
    candidates = torch.as_tensor(penalties, dtype=torch.float64, device=features.device).reshape(-1)
    if len(candidates) == 0:
        raise CortexflowError("no penalty was given; give one or more, for example torch.logspace(0, 5, 10)")
    if not (torch.isfinite(candidates) & (candidates > 0)).all():
        raise CortexflowError(f"penalties must be positive and finite, the smallest is {float(candidates.min())}; remove what is not")
    return candidates
