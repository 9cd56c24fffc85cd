"""Low-rank weights and shared noise in closed stationary solutions.

**Low rank** (``W = chi + sum_k m^k n^kT/N`` within a population, Gaussian m, n).  The overlaps are order parameters:

    mu      += sum_k E[m^k] kappa_k,          frozen variance += sum_k Var[m^k] kappa_k^2
    kappa_k  = <n^k y> = E[n^k] <y> + sum_l Cov(n^k, m^l) kappa_l S,      S = d<y>/d mu

(Gaussian integration by parts) for states in which kappa does not change in time. Standard result for rate neurons
(Mastrogiuseppe and Ostojic 2018); it asks of the neuron only that its mean output be a function of a Gaussian
variable, as all closed forms here do.

**Shared noise** c_a(t) with the spectral matrix C_x enters all neurons of a population, moves their means, and comes
back through the mean weights.  In linear response the shared part of the inputs is

    P(w) = T C_x T^H,      T = (1 - M R)^-1,      R_a = S_a/((1 + i w tau_in)(1 + i w tau_out)) (or a step's delay)

It adds P_aa to the covariance of the input of a single neuron, and to the covariance of the populations
``(1 - R M)^-1 [diag(A - |R|^2 P_aa)/N + R C_x R^H] (1 - R M)^-H``: what is shared is not averaged out.  Exact for
linear neurons, first order in the shared noise for others (reconstruction).

kappa and S are entries of the state, behind those of the populations.
"""

from __future__ import annotations

import itertools
import math

import numpy as np

from lft.meanfield.fluctuations.covariance import couplings
from lft.meanfield.fluctuations.covariance_closed import susceptibility
from lft.meanfield.saddle.stationary_closed import _System, white_response
from lft.meanfield.structured import LowRank

FIRST_OVERLAP = 0.5
"""Overlaps begin at this part of the size of the right vector: a start at 0 stays there."""


def shared_spectrum(model, omega):
    """C_x(w) of a model, (F, P, P)."""
    out = np.zeros((len(omega), len(model.populations), len(model.populations)))
    for noise in model.shared:
        f = np.array([noise.factor(name) for name in model.names])
        power = noise.intensity / (1.0 + (omega * noise.tau) ** 2)
        out += power[:, None, None] * np.outer(f, f)
    return out


def shared_inputs(model, omega, response):
    """P(w), the shared part of the inputs with what comes back, (F, P, P); response (P, F)."""
    one = np.eye(len(model.populations))
    inverse = np.linalg.inv(one - couplings(model, omega) * response.T[:, None, :])
    return inverse @ shared_spectrum(model, omega) @ inverse.conj().swapaxes(1, 2)


def private_power(model, omega, response, power):
    """Spectra of single neurons without the shared part, (P, F)."""
    if not model.shared:
        return power
    shared = np.einsum("faa->af", shared_inputs(model, omega, response)).real
    return power - np.abs(response) ** 2 * shared


class StructuredSystem(_System):
    """The map with overlaps and shared noise."""

    def __init__(self, model, grid):
        super().__init__(model, grid)
        self.low_rank = [c for c in model.connections if isinstance(c.weights, LowRank)]
        self.begin = self.width * len(self.forms)
        edges = np.cumsum([self.begin, *(c.weights.rank for c in self.low_rank)])
        self.overlap_at = [slice(a, b) for a, b in itertools.pairwise(edges)]
        self.slopes_at = slice(edges[-1], edges[-1] + len(self.forms))
        self.bare = [self._bare(k) for k in range(len(self.forms))] if model.shared else None
        self.seen, self.common = None, None

    def overlaps(self, state):
        """kappa of every low-rank connection."""
        return [state[at].copy() for at in self.overlap_at]

    def _bare(self, k):
        """Covariance of x by the shared noise itself, without what comes back."""
        form, out = self.forms[k], np.zeros_like(self.grid.lags)
        for noise in self.model.shared:
            f = noise.factor(self.model.names[k])
            if f:
                out += f * f * noise.intensity * white_response(self.grid.lags, (noise.tau, form.tau_in))
        return out

    def _shared(self, state):
        """Covariance of x by shared noise, one array per population."""
        slopes = state[self.slopes_at]
        if self.seen is not None and np.array_equal(self.seen, slopes):
            return self.common
        omega = self.grid.omega
        filters = [f.answer(omega, self.grid.dt) for f in self.forms]
        whole = shared_inputs(self.model, omega, np.array([s * f for s, f in zip(slopes, filters, strict=True)]))
        more = np.einsum("faa->af", whole - shared_spectrum(self.model, omega)).real
        self.common = []
        for k, form in enumerate(self.forms):
            power = more[k] / (1 + (omega * form.tau_in) ** 2)
            back = np.fft.irfft(power, self.grid.n)[: self.grid.n // 2 + 1] / self.grid.dt
            self.common.append(self.bare[k] + back)
        self.seen = slopes.copy()
        return self.common

    def inputs(self, state, k):
        mu, frozen, dynamic = super().inputs(state, k)
        for c, kappa in zip(self.low_rank, self.overlaps(state), strict=True):
            if self.model.index(c.target) == k:
                scale = self.model.populations[k].weight_scale
                mu += scale * float(np.dot(c.weights.left_mean, kappa))
                frozen += scale**2 * float(np.dot(np.square(c.weights.left_std), kappa**2))
        if self.bare is not None:
            dynamic = dynamic + self._shared(state)[k]
        return mu, frozen, dynamic

    def slopes(self, state):
        """S of every population."""
        out = []
        for k, form in enumerate(self.forms):
            mu, frozen, dynamic = self.inputs(state, k)
            out.append(susceptibility(form.gain, mu, math.sqrt(frozen + max(dynamic[0], 0.0))))
        return np.array(out)

    def __call__(self, state):
        new = super().__call__(state)
        slopes = self.slopes(state)
        new[self.slopes_at] = slopes
        for c, at in zip(self.low_rank, self.overlap_at, strict=True):
            k, w = self.model.index(c.target), c.weights
            scale = self.model.populations[k].weight_scale
            mean = new[k * self.width]
            kappa = state[at]
            new[at] = np.array(w.right_mean) * mean + scale * np.array(w.overlap, float) @ kappa * slopes[k]
        return new

    def start(self, scale, push=0.0):
        state, damping = super().start(scale, push)
        tail = np.zeros(self.slopes_at.stop - self.begin)
        state = np.concatenate([state, tail])
        for c, at in zip(self.low_rank, self.overlap_at, strict=True):
            size = np.hypot(c.weights.right_mean, c.weights.right_std)
            state[at] = FIRST_OVERLAP * (size if push >= 0 else -size)
        state[self.slopes_at] = self.slopes(state)
        return state, damping
