"""Posterior of couplings by hybrid Monte Carlo.

    p(theta | data) ~ exp[ L(theta_hat + C (theta - theta_hat)) ] prior(theta)

With a true likelihood C = 1.  A pseudo-likelihood counts its data more than once: its curvature H at the maximum is not
the precision of the estimate, which is ``K = H G^-1 H`` (G the covariance of the score).  The affine map

    C = H^(-1/2) K^(1/2)          (symmetric roots),      C^T H C = K

gives the adjusted log-likelihood the right curvature and keeps its maximum, hence intervals with the right coverage
(curvature adjustment of composite likelihoods; derived here, proposed for Bayesian inference by M. Ribatet, D. Cooley,
A. C. Davison, arXiv 0911.5357, of which the abstract was read).

Sampling runs in coordinates x with ``theta = mode + W x`` where W W^T is the inverse of the curvature at the mode, so
that the target is near a standard normal whatever the units: leapfrog trajectories of random length between 0.1 and 0.4
periods (the mean of the cosine over them is 0: independent samples of a normal target), step size tuned to an
acceptance of 0.8 in warm-up, then fixed.  Every random number is a function of (seed, chain, iteration), chains are
dealt to ranks: the same bits on any number of them.  The scale of a hierarchical prior is drawn from its conditional
distribution between trajectories, and stretched together with its couplings by a Metropolis step.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from lft.analysis.estimate import estimate
from lft.analysis.source import ordered_map
from lft.errors import DivergenceError, InputError
from lft.inference.uncertainty.intervals import percentiles
from lft.inference.uncertainty.sandwich import influences
from lft.integrators import scheme
from lft.rng import Key, Stream

MAX_SIZE = 400
TARGET = 0.8
DIVERGENT = 1000.0  # change of the energy that no working trajectory has
PRIORS = ("gaussian", "laplace", "hierarchical")
HYPER = (1.0, 0.01)  # inverse gamma of tau^2: shape, rate (log-odds^2)


@dataclass(frozen=True)
class Prior:
    """Prior of the penalized parameters; fields are flat.

    Attributes
    ----------
    kind : {"gaussian", "laplace", "hierarchical"}
        ``hierarchical``: Gaussian whose variance tau^2, one for all couplings of a kind, has an inverse gamma prior of
        shape 1 and rate 0.01.
    scale : float
        Standard deviation (``gaussian``) or mean absolute value (``laplace``) in log-odds; start for ``hierarchical``.
    """

    kind: str = "gaussian"
    scale: float = 1.0

    def __post_init__(self):
        if self.kind not in PRIORS:
            raise InputError(f"prior {self.kind!r}: valid are {', '.join(PRIORS)}")
        if not (math.isfinite(self.scale) and self.scale > 0):
            raise InputError(f"scale of the prior = {self.scale!r}: valid is a finite number > 0")


@dataclass(frozen=True, eq=False)
class Posterior:
    """Samples and their diagnostics.

    Attributes
    ----------
    names : list of str
    samples : ndarray (n_chains, n_samples, size)
        In log-odds.
    scales : dict
        ``hierarchical``: {kind: ndarray (n_chains, n_samples)} of tau.
    acceptance : ndarray (n_chains,)
    step : ndarray (n_chains,)
        Step sizes in whitened coordinates.
    divergences : int
    r_hat, ess : ndarray (size,)
        Split R-hat, and effective number of samples (all chains).
    adjusted : bool
        Whether the curvature was adjusted.
    warnings : list of str
    """

    names: list
    samples: np.ndarray
    scales: dict
    acceptance: np.ndarray
    step: np.ndarray
    divergences: int
    r_hat: np.ndarray
    ess: np.ndarray
    adjusted: bool
    warnings: list

    @property
    def mean(self):
        """(size,) posterior mean."""
        return self.samples.mean(axis=(0, 1))

    @property
    def sd(self):
        """(size,) posterior standard deviation."""
        return self.samples.reshape(-1, self.samples.shape[2]).std(axis=0, ddof=1)

    def interval(self, level=0.95):
        """Central interval: (low, high), each (size,)."""
        if not 0 < level < 1:
            raise InputError(f"level = {level!r}: valid is a number, 0 < level < 1")
        return percentiles(self.samples.reshape(-1, self.samples.shape[2]), level)


# ---- target
class Target:
    """Log posterior density in whitened coordinates, up to a constant.

    ``adjust`` is the matrix C about ``center``, or None.
    """

    def __init__(self, objective, prior, center, adjust=None):
        self.objective, self.prior, self.center, self.adjust = objective, prior, center, adjust
        self.kinds = np.asarray(objective.kinds())
        self.coupled = (self.kinds != "c") & (np.asarray(objective.groups()) >= 0)
        self.families = [str(k) for k in np.unique(self.kinds[self.coupled])]
        self.mode, self.whiten = center, np.eye(len(center))

    def _mapped(self, theta):
        return theta if self.adjust is None else self.center + self.adjust @ (theta - self.center)

    def _per_parameter(self, scale):
        """Scale of each coupling; ``scale`` is {kind: number}."""
        out = np.ones(len(self.center))
        for kind in self.families:
            out[self.coupled & (self.kinds == kind)] = scale[kind]
        return out

    def log_prior(self, theta, scale):
        x = (theta / self._per_parameter(scale))[self.coupled]
        return -float(np.abs(x).sum()) if self.prior.kind == "laplace" else -0.5 * float(x @ x)

    def value(self, theta, scale):
        """Log posterior density at theta given the scales."""
        o = self.objective
        return o.log_likelihood(self._mapped(theta), 0, o.n_rows) + self.log_prior(theta, scale)

    def gradient(self, theta, scale):
        """Its gradient."""
        o = self.objective
        g = o.score(self._mapped(theta), 0, o.n_rows)
        g = g if self.adjust is None else self.adjust.T @ g
        s = self._per_parameter(scale)
        pull = np.sign(theta) / s if self.prior.kind == "laplace" else theta / s**2
        return g - np.where(self.coupled, pull, 0.0)

    def settle(self, scale):
        """Find the mode and the whitening there; Laplace priors count as Gaussians of their variance for that."""
        s = self._per_parameter(scale) * (math.sqrt(2) if self.prior.kind == "laplace" else 1.0)
        precision = np.where(self.coupled, s**-2.0, 0.0)
        theta = self.center.copy()
        value = self._smooth(theta, precision)
        for _ in range(100):
            gradient = self.objective.score(self._mapped(theta), 0, self.objective.n_rows)
            gradient = gradient if self.adjust is None else self.adjust.T @ gradient
            curvature = self._curvature(theta) + np.diag(precision)
            step = np.linalg.solve(curvature, gradient - precision * theta)
            if float((gradient - precision * theta) @ step) < 1e-6:
                break
            length = 1.0
            while (new := self._smooth(theta + length * step, precision)) < value and length > 1e-6:
                length /= 2
            theta, value = theta + length * step, new
        self.mode = theta
        self.whiten = np.linalg.inv(np.linalg.cholesky((curvature + curvature.T) / 2)).T

    def _smooth(self, theta, precision):
        o = self.objective
        return o.log_likelihood(self._mapped(theta), 0, o.n_rows) - 0.5 * float(precision @ theta**2)

    def _curvature(self, theta):
        h = dense_information(self.objective, self._mapped(theta))
        return h if self.adjust is None else self.adjust.T @ h @ self.adjust


def dense_information(objective, theta):
    """H as a matrix, through the solver that the objective brings."""
    size = objective.size
    inverse = objective.evaluate(theta)[2](np.full(size, RIDGE)).solve(np.eye(size))
    return np.linalg.inv((inverse + inverse.T) / 2) - RIDGE * np.eye(size)


RIDGE = 1e-8  # keeps a flat direction invertible


def curvature_adjustment(objective, theta, n_blocks=None):
    """The matrix C of the module, with G from blocks of time.

    Examples
    --------
    Data counted twice: the adjustment gives half the curvature back.

    >>> import numpy as np
    >>> from lft.testing.objectives import LinearObjective
    >>> rng = np.random.default_rng(0)
    >>> x, noise = rng.normal(size=(20000, 2)), rng.normal(size=20000)
    >>> o = LinearObjective(np.repeat(x, 2, axis=0), np.repeat(noise, 2))
    >>> _, g, make = o.evaluate(np.zeros(2))
    >>> C = curvature_adjustment(o, make(None).solve(g), 200)
    >>> bool(np.all(np.abs(np.linalg.eigvalsh(C.T @ C) * 2 - 1) < 0.3))
    True
    """
    information = objective.evaluate(theta)[2](None)
    u, _ = influences(objective, theta, information, n_blocks)
    if len(u) <= 2 * objective.size:
        # fewer blocks than parameters: G would be singular, so its shape is that of more, shorter blocks
        u, _ = influences(objective, theta, information, min(10 * objective.size, objective.n_rows // 4))
    if len(u) <= objective.size:
        raise InputError(
            f"posterior: {objective.n_rows} rows give {len(u)} blocks for {objective.size} parameters; the covariance "
            "of the score needs more blocks than parameters"
        )
    h = dense_information(objective, theta)
    covariance = u.T @ u
    # noise of an estimated covariance makes its inverse too large by this factor (Wishart; standard result)
    precision = np.linalg.inv(covariance) * max((len(u) - objective.size - 2) / (len(u) - 1), 1e-3)
    return _root(h, -0.5) @ _root(precision, 0.5)


def _root(matrix, power):
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    if values[0] <= 0:
        raise DivergenceError("posterior: the information is singular; give a penalty or select fewer units")
    return (vectors * values**power) @ vectors.T


# ---- sampling
def sample_posterior(objective, theta, *, prior=None, adjust=True, n_samples=1000, n_warmup=300, n_chains=4, seed=0,
                     first_chain=0, n_blocks=None, integrator="leapfrog", comm=None):  # fmt: skip
    """Draw from the posterior of all parameters.

    Parameters
    ----------
    objective : Objective
        At most 400 parameters.
    theta : ndarray (size,)
        The free maximum (``adjust``), or any start (a true likelihood).
    prior : Prior, optional
        Default Gaussian of standard deviation 1 in log-odds.
    adjust : bool
        Adjust the curvature: True for a pseudo-likelihood, False for a likelihood.
    n_samples, n_warmup, n_chains : int
        Per chain; trajectories.
    seed, first_chain : int
        Chains are numbered from ``first_chain``: posteriors that are independent of each other take different numbers.
    n_blocks : int, optional
        Blocks behind the adjustment.
    integrator : str
        A scheme of ``lft.integrators``.
    comm : mpi4py communicator, optional
        Chains are dealt out to the ranks.

    Returns
    -------
    Posterior

    Raises
    ------
    InputError
        Too many parameters, bad counts.
    DivergenceError
        The information is singular at theta.

    Notes
    -----
    Cost: about 10 gradients per trajectory.

    References
    ----------
    S. Duane, A. D. Kennedy, B. J. Pendleton, D. Roweth, Phys. Lett. B 195, 216 (1987).

    Examples
    --------
    One observation 3.0 with unit noise and a unit prior: mean 1.5, variance 1/2.

    >>> import numpy as np
    >>> from lft.testing.objectives import LinearObjective
    >>> o = LinearObjective(np.eye(1), [3.0])
    >>> p = sample_posterior(o, np.array([3.0]), adjust=False, n_samples=500, n_chains=2)
    >>> bool(abs(p.mean[0] - 1.5) < 0.15), bool(abs(p.sd[0] ** 2 - 0.5) < 0.12), p.divergences
    (True, True, 0)
    """
    if objective.size > MAX_SIZE:
        raise InputError(f"posterior of {objective.size} parameters: valid are at most {MAX_SIZE}; select fewer units")
    counts = (("samples", n_samples, 4), ("warm-up", n_warmup, 1), ("chains", n_chains, 1))
    for label, value, least in counts:
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
            raise InputError(f"posterior: {label} = {value!r}: valid is an integer >= {least}")
    prior = Prior() if prior is None else prior
    theta = np.asarray(theta, float)
    matrix = curvature_adjustment(objective, theta, n_blocks) if adjust else None
    target = Target(objective, prior, theta, matrix)
    scale = {kind: prior.scale for kind in target.families}
    if prior.kind == "hierarchical":
        target.settle(scale)
        scale = {
            k: max(float(np.std(target.mode[target.coupled & (target.kinds == k)])), 1e-2) for k in target.families
        }
    target.settle(scale)

    def chain(number):
        return run_chain(target, scale, Key(seed, first_chain + number), n_samples, n_warmup, integrator)

    chains = list(ordered_map(chain, range(n_chains), comm))
    samples = np.stack([c[0] for c in chains])
    scales = {k: np.stack([c[1][k] for c in chains]) for k in target.families} if prior.kind == "hierarchical" else {}
    divergences = sum(c[4] for c in chains)
    r_hat, ess = split_r_hat(samples), effective_samples(samples)
    warnings = []
    if r_hat.max() > 1.05:
        worst = objective.names()[int(np.argmax(r_hat))]
        warnings.append(f"posterior: R-hat of {worst} is {r_hat.max():.3f} (above 1.05): sample longer")
    if ess.min() < 100:
        warnings.append(f"posterior: {ess.min():.0f} effective samples of {objective.names()[int(np.argmin(ess))]}")
    if divergences:
        warnings.append(f"posterior: {divergences} divergent trajectories")
    return Posterior(
        objective.names(), samples, scales, np.array([c[2] for c in chains]), np.array([c[3] for c in chains]),
        divergences, r_hat, ess, adjust, warnings,
    )  # fmt: skip


def accept(before, after, threshold):
    """Metropolis: whether a trajectory from energy ``before`` to ``after`` is kept; ``threshold`` is -log(uniform)."""
    return bool(np.isfinite(after) and after - before < threshold)


def run_chain(target, scale, key, n_samples, n_warmup, integrator="leapfrog"):
    """(samples, scales, acceptance, step, divergences) of one chain."""
    size = len(target.mode)
    step = log_step_mean = 0.0
    log_step = math.log(1.2 * size**-0.25)
    offset, log_step_mean, error_sum = math.log(10) + log_step, log_step, 0.0
    x = key.fill("normal", 0, 1, size, 0, Stream.POSTERIOR)[0]
    scale = dict(scale)
    samples = np.empty((n_samples, size))
    scales = {k: np.empty(n_samples) for k in target.families}
    kept, divergences = 0.0, 0
    theta = target.mode + target.whiten @ x
    energy = -target.value(theta, scale)
    for t in range(1, n_warmup + n_samples + 1):
        is_warm = t > n_warmup
        step = math.exp(log_step_mean if is_warm else log_step)
        momentum = key.fill("normal", 0, 1, size, t, Stream.POSTERIOR)[0]
        threshold = key.exponential(t, Stream.POSTERIOR, draw=1)
        length = (0.2 + 0.6 * key.uniform(t, Stream.POSTERIOR, draw=2)) * math.pi
        steps = min(max(round(length / step), 1), 200)
        new_x, new_momentum = _trajectory(target, scale, x, momentum, steps, step, scheme(integrator))
        new_theta = target.mode + target.whiten @ new_x
        with np.errstate(over="ignore", invalid="ignore"):
            new_energy = -target.value(new_theta, scale)
            before = energy + 0.5 * float(momentum @ momentum)
            after = new_energy + 0.5 * float(new_momentum @ new_momentum)
        change = after - before if np.isfinite(after) else np.inf
        if accept(before, after, threshold):
            x, theta, energy = new_x, new_theta, new_energy
            kept += is_warm
        divergences += is_warm and change > DIVERGENT
        if not is_warm:  # dual averaging (standard result)
            error_sum += TARGET - min(1.0, math.exp(min(-change, 0.0)))
            log_step = offset - math.sqrt(t) / 0.05 * error_sum / (t + 10)
            weight = t**-0.75
            log_step_mean = weight * log_step + (1 - weight) * log_step_mean
        if target.prior.kind == "hierarchical":
            scale = draw_scales(target, theta, key, t)
            x, theta, scale = stretch_scales(target, x, theta, scale, key, t)
            energy = -target.value(theta, scale)
        if is_warm:
            samples[t - n_warmup - 1] = theta
            for k in target.families:
                scales[k][t - n_warmup - 1] = scale[k]
    return samples, scales, kept / n_samples, step, int(divergences)


def _trajectory(target, scale, x, momentum, steps, step, method):
    x, momentum = x.copy(), momentum.copy()
    with np.errstate(over="ignore", invalid="ignore"):
        for kick, drift in method.pairs(steps, step):
            momentum += kick * (target.whiten.T @ target.gradient(target.mode + target.whiten @ x, scale))
            x += drift * momentum
    return x, momentum


def draw_scales(target, theta, key, t):
    """tau of each kind from its conditional: ``tau^2 ~ inverse gamma(1 + n/2, 0.01 + sum theta^2/2)``."""
    from scipy.special import gammaincinv

    out = {}
    for number, kind in enumerate(target.families):
        own = theta[target.coupled & (target.kinds == kind)]
        shape, rate = HYPER[0] + len(own) / 2, HYPER[1] + 0.5 * float(own @ own)
        uniform = key.uniform(t, Stream.POSTERIOR, draw=3, site=number)
        out[kind] = math.sqrt(rate / float(gammaincinv(shape, uniform)))
    return out


def stretch_scales(target, x, theta, scale, key, t):
    """Metropolis for tau with all couplings of its kind stretched along: theta and tau times one factor.

    Where the data say little, theta follows tau and the conditional draw alone would creep.  In ``eta = theta/tau``
    the prior does not depend on tau, so the ratio is that of the likelihoods times ``tau^-2 exp(-0.01/tau^2)`` (the
    inverse gamma density of shape 1, in log tau).
    """
    log_density = lambda tau: -2 * HYPER[0] * math.log(tau) - HYPER[1] / tau**2  # noqa: E731
    o = target.objective
    now = o.log_likelihood(target._mapped(theta), 0, o.n_rows)
    for number, kind in enumerate(target.families):
        width = 0.05 * 20 ** key.uniform(t, Stream.POSTERIOR, draw=4, site=number)  # all sizes from 0.05 to 1
        log_factor = width * float(key.fill("normal", number, 1, 1, t, Stream.POSTERIOR, 5)[0][0])
        factor = math.exp(log_factor)
        own = target.coupled & (target.kinds == kind)
        trial = np.where(own, factor * theta, theta)
        new = o.log_likelihood(target._mapped(trial), 0, o.n_rows)
        gain = new - now + log_density(factor * scale[kind]) - log_density(scale[kind])
        if -gain < key.exponential(t, Stream.POSTERIOR, draw=6, site=number):
            theta, now, scale = trial, new, {**scale, kind: factor * scale[kind]}
    return np.linalg.solve(target.whiten, theta - target.mode), theta, scale


# ---- diagnostics
def split_r_hat(samples):
    """Split R-hat of every parameter, from chains cut into halves: 1 when between- and within-variance agree.

    >>> import numpy as np
    >>> x = np.random.default_rng(0).normal(size=(4, 1000, 1))
    >>> bool(split_r_hat(x)[0] < 1.01), bool(split_r_hat(x + np.arange(4)[:, None, None])[0] > 1.5)
    (True, True)
    """
    n = samples.shape[1] // 2
    halves = np.concatenate([samples[:, :n], samples[:, n : 2 * n]])
    within = halves.var(axis=1, ddof=1).mean(axis=0)
    between = halves.mean(axis=1).var(axis=0, ddof=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(within > 0, np.sqrt((n - 1) / n + between / within), 1.0)


def effective_samples(samples):
    """Effective number of samples of every parameter, ``n/(2 tau_int)`` over all chains."""
    import warnings

    from lft.errors import SeriesTooShort

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SeriesTooShort)  # reported by R-hat and by the number itself
        taus = [estimate([np.ascontiguousarray(c[:, [j]]) for c in samples]).tau_int for j in range(samples.shape[2])]
    return samples.shape[0] * samples.shape[1] / (2 * np.array(taus))
