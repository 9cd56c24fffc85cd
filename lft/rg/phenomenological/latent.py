"""Common input without interaction: binary units that see a few shared Gaussian processes.

    y_i(t) = g_i . eta(t) + sqrt(1 - |g_i|^2) xi_i(t),     spike if y_i(t) > theta_i

eta: M independent Gaussian processes with unit variance and autocorrelations c_m(l); xi: private white noise.  Given
eta the units are independent.  (A dichotomized Gaussian, as in J. H. Macke et al., Neural Computation 21, 397 (2009),
of which the abstract was seen, with a covariance of low rank.)  Matched to a recording are

- the rate of every unit, exactly: ``theta_i = -Phi^-1(p_i)``;
- the equal-time correlation coefficients of all pairs, by least squares over the loadings g (N x M);
- along the direction of each input, how the covariance *between* units decays with the lag.

Not matched: correlations that M inputs cannot carry, moments beyond the second, and the autocorrelation of single
units beyond what the inputs give.  For thresholds a, b and latent correlation x (derivation: Plackett's identity)

    cov(x) = int_0^{asin x} exp(-(a^2 + b^2 - 2 a b sin u)/(2 cos^2 u)) du / (2 pi).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from lft.errors import InputError
from lft.rg.phenomenological.activity import correlation, covariance, cut_into_blocks
from lft.rg.phenomenological.surrogates import binary_rows
from lft.rng import Stream

MAX_LATENTS = 5
NODES = 8
LARGEST_SHARE = 0.98
"""Largest |g|^2: some private noise always remains."""


@dataclass(frozen=True, eq=False)
class LatentModel:
    """Shared Gaussian inputs fitted to a recording.

    Attributes
    ----------
    threshold : ndarray, shape (N,)
        inf for silent units, -inf for those that fire in every bin.
    loading : ndarray, shape (N, M)
    autocorrelation : ndarray, shape (M, n_lags)
        Of each input, 1 at lag 0.
    explained : float
        ``1 - sum (r - r_model)^2 / sum r^2`` over all pairs, sampling noise of the recording included.
    notes : tuple of str
    """

    threshold: np.ndarray
    loading: np.ndarray
    autocorrelation: np.ndarray
    explained: float
    notes: tuple = ()

    def inputs(self, n_bins, key):
        """The shared inputs, shape (M, n_bins): stationary Gaussian, by a circulant embedding."""
        from scipy.fft import irfft, next_fast_len

        n_lags = self.autocorrelation.shape[1]
        size = next_fast_len(n_bins + n_lags, real=True)
        out = []
        for m, c in enumerate(self.autocorrelation):
            power = _spectrum(c, size)
            a, b = key.fill("normal", 0, 1, len(power), m, Stream.SURROGATE, 1)
            modes = (a + 1j * b) * np.sqrt(power * size / 2)
            for edge in (0, *([len(power) - 1] if size % 2 == 0 else [])):
                modes[edge] = math.sqrt(2) * modes[edge].real
            out.append(irfft(modes, n=size)[:n_bins])
        return np.array(out)

    def sample(self, n_bins, key):
        """Spikes, int8 of shape (n_bins, N); a pure function of the key."""
        inputs = self.inputs(n_bins, key).astype(np.float32)
        out = np.zeros((len(self.threshold), n_bins), np.int8)
        private = np.sqrt(1 - (self.loading**2).sum(axis=1))
        half = (n_bins + 1) // 2
        for i, theta in enumerate(self.threshold):
            if theta == -np.inf:
                out[i] = 1
            elif np.isfinite(theta):
                noise = np.concatenate(key.fill("normal", 0, 1, half, i, Stream.SURROGATE))[:n_bins]
                out[i] = self.loading[i].astype(np.float32) @ inputs + private[i] * noise > theta
        return out.T


def fit_latent(values, n_latents=None, n_blocks=20):
    """Fit shared inputs to a recording.

    Parameters
    ----------
    values : array_like, shape (T, N)
        0 or 1.
    n_latents : int, optional
        Number of inputs.  Default: eigenvalues of the correlation matrix above the edge ``(1 + sqrt(N/T))^2`` that
        noise alone has (Marchenko and Pastur), at least 1 and at most 5.
    n_blocks : int, optional
        Autocorrelations reach as far as a block of ``T / n_blocks`` bins.

    Returns
    -------
    LatentModel

    Raises
    ------
    InputError
        Values other than 0 and 1, or too few units or bins.

    Notes
    -----
    Cost: a quadrature over all pairs per step of the least squares; 10 s for 1152 units.

    Examples
    --------
    >>> import numpy as np
    >>> from lft.rng import Key
    >>> from lft.rg.phenomenological.latent import LatentModel, fit_latent
    >>> true = LatentModel(np.full(12, 1.0), np.full((12, 1), 0.6), 0.9 ** np.arange(50)[None], 1.0)
    >>> fit = fit_latent(true.sample(20000, Key(1)), n_latents=1)
    >>> bool(abs(abs(fit.loading).mean() - 0.6) < 0.03)
    True
    """
    from scipy.special import ndtri

    rows = binary_rows(values)
    activity = cut_into_blocks(rows.T, n_blocks)
    mean = rows[activity.unit].mean(axis=1)  # of all bins: a unit that fires in the tail alone is not silent
    r = correlation(covariance(activity, range(activity.n_blocks))[1])
    theta = -ndtri(mean)
    n, n_bins = len(mean), activity.n_blocks * activity.length
    if n_latents is None:
        edge = (1 + math.sqrt(n / n_bins)) ** 2
        n_latents = int(np.clip(np.count_nonzero(np.linalg.eigvalsh(r) > edge), 1, min(MAX_LATENTS, n // 3)))
    if isinstance(n_latents, bool) or not isinstance(n_latents, int | np.integer) or not 1 <= n_latents < n:
        raise InputError(f"n_latents = {n_latents!r}: valid is an integer from 1 to {n - 1}")
    loading, explained = _fit_loadings(r, theta, int(n_latents))
    notes = [f"latent null: {n_latents} shared inputs carry {explained:.0%} of the squared correlations of all pairs"]
    autocorrelation = _autocorrelations(activity, mean, theta, loading)
    every = np.full(rows.shape[0], np.inf)
    every[activity.unit] = theta
    always = rows.all(axis=1)
    every[always] = -np.inf
    full = np.zeros((len(every), loading.shape[1]))
    full[activity.unit] = loading
    return LatentModel(every, full, autocorrelation, explained, tuple(notes))


def binary_covariance(x, theta, nodes=NODES):
    """Covariances of thresholded Gaussians with latent correlations x (N, N), by Gauss-Legendre quadrature in single
    precision (relative error 1e-5 up to |x| = 0.9).

    Examples
    --------
    >>> import numpy as np
    >>> from lft.rg.phenomenological.latent import binary_covariance
    >>> round(float(binary_covariance(np.full((1, 1), 0.5), np.zeros(1))[0, 0]) * 12, 5)   # asin(1/2)/(2 pi) = 1/12
    1.0
    """
    u, w = (a.astype(np.float32) for a in np.polynomial.legendre.leggauss(nodes))
    top, theta = np.arcsin(x).astype(np.float32), theta.astype(np.float32)
    sum_of_squares, product = (theta[:, None] ** 2 + theta**2) / 2, np.outer(theta, theta)
    out = np.zeros_like(top)
    for node, weight in zip((u + 1) / 2, w / 2, strict=True):
        s = np.sin(node * top)
        out += weight * np.exp((product * s - sum_of_squares) / (1 - s * s))
    return (out * top / (2 * math.pi)).astype(float)


def _fit_loadings(r, theta, m):
    """Loadings (N, m) that bring the model's correlation coefficients nearest to r, and the share explained."""
    from scipy.optimize import minimize
    from scipy.special import ndtr

    p = ndtr(-theta)
    scale = 1 / np.sqrt(np.outer(p * (1 - p), p * (1 - p)))
    np.fill_diagonal(scale, 0.0)
    target = r.copy()
    np.fill_diagonal(target, 0.0)
    sum_of_squares, product = (theta[:, None] ** 2 + theta**2) / 2, np.outer(theta, theta)
    total = float((target**2).sum())

    def loss(flat):
        v = flat.reshape(-1, m)
        norm = np.sqrt(1 + (v**2).sum(axis=1))
        g = v * (math.sqrt(LARGEST_SHARE) / norm)[:, None]
        x = g @ g.T
        np.fill_diagonal(x, 0.0)
        miss = binary_covariance(x, theta) * scale - target
        slope = np.exp((product * x - sum_of_squares) / (1 - x * x)) / (2 * math.pi * np.sqrt(1 - x * x))
        by_g = 4 * (miss * slope * scale) @ g
        along = (by_g * v).sum(axis=1) / norm**2
        by_v = (by_g - along[:, None] * v) * (math.sqrt(LARGEST_SHARE) / norm)[:, None]
        return float((miss**2).sum()) / total, by_v.ravel() / total

    value, vector = np.linalg.eigh(_communal(target, m))
    first = vector[:, -m:] * np.sqrt(np.clip(value[-m:], 0, None))
    gain = np.exp(-(theta**2) / 2) / np.sqrt(2 * math.pi * p * (1 - p))
    first = first / gain[:, None]
    size = np.sqrt((first**2).sum(axis=1))
    first *= np.minimum(1, 0.9 / np.maximum(size, 1e-12))[:, None]
    start = first / np.sqrt(np.maximum(LARGEST_SHARE - (first**2).sum(axis=1), 0.05))[:, None]
    found = minimize(loss, start.ravel(), jac=True, method="L-BFGS-B", options={"maxiter": 100, "ftol": 1e-6})
    v = found.x.reshape(-1, m)
    g = v * (math.sqrt(LARGEST_SHARE) / np.sqrt(1 + (v**2).sum(axis=1)))[:, None]
    _, _, turn = np.linalg.svd(g * gain[:, None], full_matrices=False)  # principal axes of what is seen
    return g @ turn.T, 1 - float(found.fun)


def _communal(target, m, rounds=5):
    """The matrix with its diagonal replaced by what m factors explain of it (principal-factor iteration)."""
    c = target.copy()
    np.fill_diagonal(c, np.abs(target).max(axis=1))
    for _ in range(rounds):
        value, vector = np.linalg.eigh(c)
        part = vector[:, -m:] * np.sqrt(np.clip(value[-m:], 0, None))
        np.fill_diagonal(c, (part**2).sum(axis=1))
    return c


def _autocorrelations(activity, mean, theta, loading):
    """Autocorrelation of every input from the lagged covariances between different units along its direction.

    The dichotomization is undone with the curve that the fitted equal-time covariances follow when all latent
    correlations are scaled by one factor.
    """
    from scipy.fft import irfft, next_fast_len, rfft

    gain = np.exp(-(theta**2) / 2) / math.sqrt(2 * math.pi)
    deviation = np.sqrt(mean * (1 - mean))
    direction = loading * (gain / deviation)[:, None]
    direction /= np.sqrt((direction**2).sum(axis=0))
    n_lags, n_bins = activity.length, activity.values.shape[1]
    size = next_fast_len(n_bins + n_lags, real=True)
    summed, own = 0.0, np.zeros((loading.shape[1], size // 2 + 1))
    for start in range(0, len(mean), 64):
        part = slice(start, start + 64)
        z = (activity.values[part] - mean[part, None].astype(np.float32)) / deviation[part, None].astype(np.float32)
        modes = rfft(z, n=size, axis=1)
        summed = summed + direction[part].T @ modes
        own += (direction[part] ** 2).T @ (modes.real**2 + modes.imag**2)
    lagged = irfft(np.abs(summed) ** 2 - own, n=size, axis=1)[:, :n_lags] / (n_bins - np.arange(n_lags))
    x = loading @ loading.T
    grid = np.linspace(-1, 1, 17)
    weight = direction / deviation[:, None]
    curve = np.empty((len(grid), loading.shape[1]))
    for k, factor in enumerate(grid):
        seen = binary_covariance(factor * x, theta)
        np.fill_diagonal(seen, 0.0)
        curve[k] = np.einsum("im,ij,jm->m", weight, seen, weight, optimize=True)
    out = np.empty((loading.shape[1], n_lags))
    for m in range(loading.shape[1]):
        ratio = lagged[m] / lagged[m, 0] if lagged[m, 0] > 0 else np.zeros(n_lags)
        known = curve[:, m] / curve[-1, m] if curve[-1, m] > 0 else grid
        out[m] = np.interp(ratio, np.maximum.accumulate(known), grid)
        out[m] *= np.clip(2 * (1 - np.arange(n_lags) / n_lags), 0, 1)  # a taper: long lags are noise
        out[m, 0] = 1.0
    return np.array([irfft(_spectrum(c, 4 * n_lags), n=4 * n_lags)[:n_lags] for c in out])


def _spectrum(c, size):
    """Power at the frequencies of a real transform of `size`, not negative, total variance 1."""
    from scipy.fft import rfft

    padded = np.zeros(size)
    padded[: len(c)] = c
    padded[size - len(c) + 1 :] += c[:0:-1]
    power = np.clip(rfft(padded).real, 0, None)
    weights = np.full(len(power), 2.0)
    weights[0] = 1.0
    if size % 2 == 0:
        weights[-1] = 1.0
    return power / (power @ weights / size)
