"""Rasters of known couplings and their likelihoods as objectives, for tests of penalties and errors."""

import itertools

import numpy as np

from lft.inference import newton
from lft.inference.pseudo.objective import gibbs_objective


def pseudo_likelihood(raster, lags=()):
    """Parameters a (pairs), b (lags), c (units)."""
    return gibbs_objective(raster, lags=lags)


def maximum(objective):
    """Free maximum and the information there."""
    theta, _, information = newton.maximize(objective.evaluate, objective.start())
    return theta, information


def ising_gibbs(n, n_bins, seed, fields=(-2.0, -1.0), scale=0.5, chains=250, thin=10, burn=100, couplings=None):
    """(J, h, raster): spins with J ~ N(0, scale^2/n), from many Gibbs chains; ``couplings`` = (J, h) fixes them."""
    rng = np.random.default_rng(seed)
    if couplings is None:
        upper = np.triu(rng.normal(0, scale / np.sqrt(n), (n, n)), 1)
        couplings = upper + upper.T, rng.uniform(*fields, n)
    j, h = couplings
    s = np.where(rng.random((chains, n)) < 0.1, 1.0, -1.0)
    per_chain = n_bins // chains
    out = np.empty((chains, per_chain, n), np.int8)
    for sweep in range(burn + per_chain * thin):
        noise = rng.logistic(size=(chains, n)) / 2
        for i in range(n):
            s[:, i] = np.where(s @ j[i] + h[i] > noise[:, i], 1.0, -1.0)
        if sweep >= burn and (sweep - burn) % thin == 0:
            out[:, (sweep - burn) // thin] = s > 0
    return j, h, out.reshape(-1, n)


def all_states(n):
    return np.array(list(itertools.product((0, 1), repeat=n)), float)


def ising_exact(j, h, n_bins, rng):
    """Independent bins of the pairwise model by enumeration."""
    states = all_states(len(h))
    s = 2 * states - 1
    energy = 0.5 * np.einsum("ki,ij,kj->k", s, j, s) + s @ h
    p = np.exp(energy - energy.max())
    return states[rng.choice(len(p), n_bins, p=p / p.sum())].astype(np.int8)


class ExactIsing:
    """True log-likelihood of the pairwise model of 0/1 units, theta = (a of the pairs, c of the units), N <= 10."""

    longest_lag = 0

    def __init__(self, raster):
        self.raster = np.asarray(raster)
        self.n_rows, self.n = self.raster.shape
        self.pairs = np.argwhere(np.triu(np.ones((self.n, self.n)), 1))
        self.size = len(self.pairs) + self.n
        self.features = self._features(all_states(self.n))
        self.index = self.raster.astype(int) @ (2 ** np.arange(self.n)[::-1])

    def _features(self, states):
        return np.concatenate([states[:, self.pairs[:, 0]] * states[:, self.pairs[:, 1]], states], axis=1)

    def names(self):
        return [f"a[{i},{j}]" for i, j in self.pairs] + [f"c[{i}]" for i in range(self.n)]

    def kinds(self):
        return np.array(["a"] * len(self.pairs) + ["c"] * self.n)

    def groups(self):
        return np.where(self.kinds() == "c", -1, np.arange(self.size))

    def _moments(self, theta):
        e = self.features @ theta
        top = e.max()
        w = np.exp(e - top)
        return top + np.log(w.sum()), w / w.sum()

    def _sums(self, start, stop):
        return np.bincount(self.index[start:stop], minlength=len(self.features)) @ self.features

    def log_likelihood(self, theta, start, stop):
        return float(self._sums(start, stop) @ theta - (stop - start) * self._moments(theta)[0])

    def score(self, theta, start, stop):
        return self._sums(start, stop) - (stop - start) * (self._moments(theta)[1] @ self.features)

    def evaluate(self, theta):
        _, p = self._moments(theta)
        mean = p @ self.features
        matrix = self.n_rows * ((self.features * p[:, None]).T @ self.features - np.outer(mean, mean))
        value = self.log_likelihood(theta, 0, self.n_rows)
        make = lambda extra: newton.DenseInformation(matrix, extra)  # noqa: E731
        return value, self.score(theta, 0, self.n_rows), make

    def over(self, ranges):
        return ExactIsing(np.concatenate([self.raster[a:b] for a, b in ranges]))


def space_time_exact(a, b, c, n_bins, n_recordings, rng):
    """int8 (n_recordings, n_bins, N): stretches of the stationary chain with weight exp(sum of ``c phi + a phi phi`` in
    a bin, ``b phi_i phi_i`` between neighboring bins), by its transfer matrix."""
    states = all_states(len(c))
    e = states @ c + 0.5 * np.einsum("ki,ij,kj->k", states, a, states)
    transfer = np.exp(0.5 * (e[:, None] + e[None, :]) + b * states @ states.T)
    values, vectors = np.linalg.eigh(transfer)
    v = np.abs(vectors[:, -1])
    steps = np.cumsum(transfer * v[None, :] / (values[-1] * v[:, None]), axis=1)
    state = rng.choice(len(v), n_recordings, p=v**2 / (v @ v))
    out = np.empty((n_recordings, n_bins, len(c)), np.int8)
    for t in range(n_bins):
        out[:, t] = states[state]
        u = rng.random(n_recordings)
        state = np.minimum((steps[state] < u[:, None]).sum(axis=1), len(v) - 1)
    return out
