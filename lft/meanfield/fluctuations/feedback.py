"""What a changed mean output does to the inputs of a network beyond their mean: feedback through variance and skewness.

The summed inputs of the neurons of a population are, at one time, a sample with a mean mu, a variance C and a third
cumulant k.  Where the outputs are binary, ``y^2`` and ``y^3`` are linear in y, so that the mean output of the sources
decides all three *at that time*.  A neuron that answers to its present input alone then has the mean output

    F(mu, C, k) = G + (k/6) d^3 G/d mu^3,    G = E phi(mu + sqrt(C) z)      (first term of Edgeworth's series)

and the loop of the population means is ``F_mu M_ab + F_C dC_a/dm_b + F_k dk_a/dm_b`` instead of ``F_mu M_ab``.  Divided
by the Gaussian slope ``dG/dmu``, which the responses of this package hold, that is an effective mean weight.

It is taken at the means that the skewness moves: F(m) = m.  Of the three terms, the first grows as sqrt K in a network
of K strong synapses and the others stay: both corrections are of relative order 1/sqrt K, equal in rank, whatever the
size N.  With fixed in-degree and equal weights the sum is a hypergeometric count and the whole of F is known; it agrees
to order 1/(K m) (tests).  Derived for this project.  Beside it the covariances of populations in simulations differ by
1/N (K = 100: 2.4, 1.1, 0.6 % at N = 500, 1000, 2000), without it by 2 to 5 % at any N.

Where a synapse filters the outputs, or they are not binary, the variance of the input depends on outputs at two times;
there M alone is taken.
"""

from __future__ import annotations

import math

import numpy as np

from lft.meanfield.saddle.closed import gain_derivatives
from lft.meanfield.saddle.stationary_closed import form_of

MOST_SKEWED = 0.6
"""Skewness k/C^1.5 of the input up to which the first term of the series is taken."""
NEWTON_STEPS = 4
STEP = 1e-4
"""Of the mean output, in units of the distance between levels, for derivatives of cubic polynomials."""


def binary_moments(mean, levels):
    """(<y>, <y^2>, <y^3>) of an output of two levels.

    >>> binary_moments(0.25, (0.0, 1.0))
    (0.25, 0.25, 0.25)
    """
    low, high = levels
    p = (mean - low) / (high - low)
    return tuple(low**k + p * (high**k - low**k) for k in (1, 2, 3))


def shape(model, connection, mean, levels):
    """Variance and third cumulant of the input through one connection from a binary population, at one time."""
    source, target = model.population(connection.source), model.population(connection.target)
    s, moments = model.statistics(connection), binary_moments(mean, levels)
    variance = s.second * moments[1] + s.covariance * (moments[1] - mean**2)
    return np.array([variance, connection.weights.third_cumulant(source.size, moments) * target.weight_scale**3])


def effective_means(model, forms, means, mu, variance):
    """Effective mean weight of every connection, for :func:`lft.meanfield.fluctuations.covariance.couplings`.

    Parameters
    ----------
    model : Model
    forms : sequence of GainForm or None
        One per population; None where the neuron has none.
    means, mu, variance : sequence of float, (P,)
        Mean outputs; mean and variance of the summed inputs, frozen part included: the Gaussian solution.

    Returns
    -------
    weights : list of float
        In the order of ``model.connections``, in units of summed input per unit of output.
    notes : list of str
        What was left out because the input is too skewed for the series.

    Examples
    --------
    Inhibition by few strong synapses: less output means less noise too, which weakens the loop of -10; skewness gives
    half of it back.

    >>> from lft.meanfield.model import Connection, FixedIndegree, Model, Population
    >>> from lft.meanfield.neurons import Binary
    >>> cells = Population("x", Binary(), size=2000, input=2.05)
    >>> model = Model((cells,), (Connection("x", "x", FixedIndegree(100, -0.1)),))
    >>> round(effective_means(model, [Binary().closed_form], [0.23487], [-0.2987], [0.17072])[0][0], 2)
    -9.84
    """
    plain = [model.statistics(c).mean for c in model.connections]
    links = [c for c in model.connections if _is_seen(model, forms, c) and variance[model.index(c.target)] > 0]
    if not links:
        return plain, []
    loop = _Loop(model, forms, links, np.array(means, float), np.array(mu, float), np.array(variance, float))
    notes = []
    skewness = loop.at(loop.means)[2] / np.maximum(loop.variance, 1e-300) ** 1.5
    worst = int(np.argmax(np.abs(skewness)))
    if abs(skewness[worst]) > MOST_SKEWED:
        notes.append(
            f"{model.names[worst]}: few strong synapses give the input a skewness of {skewness[worst]:.2g}, too much "
            "for a correction: covariances of populations are those of Gaussian input"
        )
        loop.has_skewness = False
    m = loop.solve()
    if m is None:
        return plain, [*notes, "feedback through the variance of the input is left out: it has no steady means"]
    return [loop.weight(c, m) if c in links else w for c, w in zip(model.connections, plain, strict=True)], notes


class _Loop:
    """Means, variances and skewness around a Gaussian solution."""

    def __init__(self, model, forms, links, means, mu, variance):
        self.model, self.forms, self.links = model, forms, links
        self.means, self.mu, self.variance, self.has_skewness = means, mu, variance, True
        self.targets = sorted({model.index(c.target) for c in links})
        self.weights = np.array(model.matrices()[0])
        self.first = self._shapes(means)

    def _shapes(self, m):
        """Variance and third cumulant by population, (2, P), through the links alone."""
        out = np.zeros((2, len(self.forms)))
        for c in self.links:
            b = self.model.index(c.source)
            out[:, self.model.index(c.target)] += shape(self.model, c, m[b], self.forms[b].levels)
        return out

    def at(self, m):
        """(mu, C, k) of the inputs at other means."""
        now = self._shapes(m)
        k = now[1] if self.has_skewness else np.zeros_like(now[1])
        return self.mu + self.weights @ (m - self.means), self.variance + now[0] - self.first[0], k

    def gains(self, m, a):
        """(F, F_mu, F_C, F_k) of a population."""
        mu, variance, k = (x[a] for x in self.at(m))
        g, k = gain_derivatives(self.forms[a].gain, mu, math.sqrt(variance), 5), k / 6.0
        return g[0] + k * g[3], g[1] + k * g[4], 0.5 * (g[2] + k * g[5]), g[3] / 6.0

    def slope(self, c, m):
        """d F_a/d m_b through one connection."""
        a, b = self.model.index(c.target), self.model.index(c.source)
        _, by_mean, by_variance, by_skewness = self.gains(m, a)
        levels = self.forms[b].levels
        step = STEP * (levels[1] - levels[0])
        high, low = (shape(self.model, c, m[b] + s * step, levels) for s in (1, -1))
        of_variance, of_skewness = (high - low) / (2 * step)
        if not self.has_skewness:
            of_skewness = 0.0
        return self.model.statistics(c).mean * by_mean + by_variance * of_variance + by_skewness * of_skewness

    def solve(self):
        """Means at which F(m) = m for the targets of the links, the others as they are (Newton's method), or None."""
        m = self.means.copy()
        for _ in range(NEWTON_STEPS):
            jacobian = -np.eye(len(self.targets))
            for c in self.links:
                if self.model.index(c.source) in self.targets:
                    at = self.targets.index(self.model.index(c.target)), self.targets.index(self.model.index(c.source))
                    jacobian[at] += self.slope(c, m)
            off = [self.gains(m, a)[0] - m[a] for a in self.targets]
            m[self.targets] -= np.linalg.lstsq(jacobian, off)[0]
            if not (np.isfinite(m).all() and np.all(self.at(m)[1][self.targets] > 0)):
                return None
        return m

    def weight(self, c, m):
        """Effective mean weight: the slope over that of a Gaussian input at the solution."""
        a = self.model.index(c.target)
        plain = gain_derivatives(self.forms[a].gain, self.mu[a], math.sqrt(self.variance[a]), 1)[1]
        return float(self.slope(c, m) / plain) if plain else self.model.statistics(c).mean


def of_solution(model, populations):
    """:func:`effective_means` at a stationary solution: ``populations[name]`` holds ``(value, error)`` by quantity."""
    found, forms = [], []
    for p in model.populations:
        q, form = populations[p.name], form_of(p.neuron)
        forms.append(form if "state_variance" in q else None)
        found.append([q[k][0] if k in q else 0.0 for k in ("mean", "state_mean", "state_variance")])
    return effective_means(model, forms, *np.array(found, float).T)


def _is_seen(model, forms, c):
    """Whether variance and skewness through a connection follow from the mean output at one time."""
    target, source = forms[model.index(c.target)], forms[model.index(c.source)]
    if target is None or source is None or c.synapse:
        return False
    return target.kind == source.kind == "binary"
