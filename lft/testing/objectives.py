"""Small objectives whose maxima, information and posteriors are known: for tests of penalties, errors and posteriors.

Both follow ``lft.inference.protocols.Objective`` and hold their design in memory: a regression of ``y`` (T,) on the
columns of ``x`` (T, n), with Gaussian noise of variance 1 (everything in closed form) or with a logistic link.
"""

from __future__ import annotations

import numpy as np


class _Dense:
    """A symmetric positive definite matrix with the products of ``lft.inference.protocols.Information``."""

    def __init__(self, matrix):
        self.matrix = matrix

    def solve(self, vector):
        return np.linalg.solve(self.matrix, vector)

    def diagonal(self):
        return self.matrix.diagonal().copy()

    def inverse_diagonal(self):
        return np.linalg.inv(self.matrix).diagonal()


class LinearObjective:
    """Gaussian regression, ``L = -1/2 sum_t (y_t - x_t . theta)^2``: information ``x^T x`` everywhere.

    Parameters
    ----------
    x : array_like (T, n)
    y : array_like (T,)
    kinds : sequence of str, optional
        Default ``a`` for every parameter; ``c`` is never penalized.
    groups : sequence of int, optional
        Default one group per parameter.

    Examples
    --------
    >>> import numpy as np
    >>> from lft.testing.objectives import LinearObjective
    >>> o = LinearObjective(np.eye(2), [1.0, 3.0])
    >>> value, gradient, make = o.evaluate(np.zeros(2))
    >>> float(value), gradient.tolist(), make(None).solve(gradient).tolist()
    (-5.0, [1.0, 3.0], [1.0, 3.0])
    """

    longest_lag = 0

    def __init__(self, x, y, kinds=None, groups=None):
        self.x, self.y = np.asarray(x, float), np.asarray(y, float)
        self.n_rows, self.size = self.x.shape
        self._kinds = np.array(["a"] * self.size if kinds is None else list(kinds))
        self._groups = np.arange(self.size) if groups is None else np.asarray(groups)

    def names(self):
        return [f"{kind}[{i}]" for i, kind in enumerate(self._kinds)]

    def kinds(self):
        return self._kinds

    def groups(self):
        return np.where(self._kinds == "c", -1, self._groups)

    def _terms(self, eta, y):
        """Log-likelihood, residual and curvature of each row."""
        return -0.5 * (y - eta) ** 2, y - eta, np.ones_like(eta)

    def evaluate(self, theta):
        terms, residual, curvature = self._terms(self.x @ theta, self.y)
        matrix = (self.x * curvature[:, None]).T @ self.x

        def make(extra):
            return _Dense(matrix if extra is None else matrix + np.diag(extra))

        return float(terms.sum()), self.x.T @ residual, make

    def score(self, theta, start, stop):
        x = self.x[start:stop]
        return x.T @ self._terms(x @ theta, self.y[start:stop])[1]

    def log_likelihood(self, theta, start, stop):
        return float(self._terms(self.x[start:stop] @ theta, self.y[start:stop])[0].sum())

    def over(self, ranges):
        keep = np.concatenate([np.arange(a, b) for a, b in ranges])
        return type(self)(self.x[keep], self.y[keep], self._kinds, self._groups)


class LogisticObjective(LinearObjective):
    """Logistic regression of 0/1 data, ``L = sum_t y_t z_t - log(1 + exp(z_t))`` with ``z = x theta``."""

    def _terms(self, eta, y):
        p = np.exp(-np.logaddexp(0, -eta))
        return y * eta - np.logaddexp(0, eta), y - p, p * (1 - p)
