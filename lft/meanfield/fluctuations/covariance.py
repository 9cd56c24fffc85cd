"""Fluctuations of population means, of order 1/N, and where they grow.

    delta Y_a = Xi_a + sum_b R_a M_ab delta Y_b,      <Xi_a Xi_a^T> = A_a/N_a (+ R_a C_x R_a^T for common input)
    Cov(Y) = (1 - R M)^-1 [diag(A/N) + R C_x R^H] (1 - R M)^-H

with the full self-consistent autocovariance A of single neurons.  In time, ``1 - R M`` is block lower triangular with
unit diagonal, so that a forward substitution solves it in any window; growth in time is the instability.  In
frequency, M carries the filter and the delay, ``M(w) = M kappa(w) exp(-i w d)``, and all zeros of ``det(1 - R M)`` must
lie in the half plane of decay.  Gaussian fluctuations of the mean fields alone (those of the second moments are
neglected).

All functions take arrays and do not care where these come from.
"""

from __future__ import annotations

import numpy as np

from lft.errors import InputError


def coupling(mean, omega, delay=0.0, synapse=0.0):
    """``M kappa(w) exp(-i w d)`` of one connection at angular frequencies (F,).

    >>> coupling(-2.0, np.array([0.0]), delay=1.5, synapse=0.3)
    array([-2.+0.j])
    """
    omega = np.asarray(omega, float)
    return mean * np.exp(-1j * omega * delay) / (1.0 + 1j * omega * synapse)


def couplings(model, omega, means=None):
    """M(w) of a model, (F, P, P), filters and delays included.

    ``means``: mean weights of the connections, if not those of the model
    (:func:`lft.meanfield.fluctuations.feedback.effective_means`).
    """
    n = len(model.populations)
    out = np.zeros((len(np.atleast_1d(omega)), n, n), complex)
    if means is None:
        means = [model.statistics(c).mean for c in model.connections]
    for c, mean in zip(model.connections, means, strict=True):
        out[:, model.index(c.target), model.index(c.source)] += coupling(mean, omega, c.delay, c.synapse)
    return out


def _loop(response, mean):
    """``R M`` as (F, P, P)."""
    response = np.atleast_2d(response)  # (P, F)
    mean = np.asarray(mean)
    if mean.ndim == 2:
        mean = mean[None]
    return response.T[:, :, None] * mean


def population_spectrum(response, mean, power, sizes, common=None):
    """Spectral matrix of the population means.

    Parameters
    ----------
    response : ndarray (P, F)
        R_a(w).
    mean : ndarray (F, P, P) or (P, P)
        M_ab(w).
    power : ndarray (P, F)
        A_a(w), spectra of single neurons.
    sizes : ndarray (P,)
    common : ndarray (F, P, P) or (P, P), optional
        Spectral matrix C_x of input that all neurons of a population share.

    Returns
    -------
    ndarray (F, P, P)
        ``<Y_a(w) conj(Y_b(w))>`` per time.

    Raises
    ------
    InputError
        ``det(1 - R M)`` vanishes at one of the frequencies, or circles the origin (see :func:`unstable_modes`) when
        the frequencies allow to count.

    Examples
    --------
    >>> import numpy as np
    >>> r, m, a = np.array([[1.0]]), np.array([[-1.0]]), np.array([[0.5]])
    >>> population_spectrum(r, m, a, np.array([10]))[0, 0, 0].real.round(6)
    np.float64(0.0125)
    """
    response, power, sizes = np.atleast_2d(response), np.atleast_2d(power), np.atleast_1d(sizes)
    loop = _loop(response, mean)
    n_f, n = power.shape[1], len(power)
    matrix = np.eye(n) - loop
    worst = float(np.min(np.abs(np.linalg.det(matrix))))
    if worst < 1e-10:
        raise InputError(f"det(1 - R M) is {worst:.2g} at one of the frequencies: the state is not stable")
    source = np.zeros((n_f, n, n), complex)
    source[:, np.arange(n), np.arange(n)] = (power / sizes[:, None]).T
    if common is not None:
        r = response.T
        source = source + r[:, :, None] * np.broadcast_to(common, source.shape) * r[:, None, :].conj()
    inverse = np.linalg.inv(np.broadcast_to(matrix, source.shape))
    return inverse @ source @ np.conj(np.swapaxes(inverse, 1, 2))


def spectrum_to_covariance(spectrum, dt):
    """Covariance by lag of a spectral matrix on all frequencies of an FFT: (F, P, P) -> (F, P, P), lag 0 first."""
    return np.fft.ifft(spectrum, axis=0).real / dt


def coherence(spectrum):
    """``|S_ab|^2/(S_aa S_bb)`` of a spectral matrix (F, P, P)."""
    own = np.einsum("faa->fa", spectrum).real
    return np.abs(spectrum) ** 2 / (own[:, :, None] * own[:, None, :])


def pair_covariance(population, single, sizes):
    """Mean covariance of two different neurons from that of the populations.

        a != b: Cov_ab;   a = b: (N_a Cov_aa - A_a)/(N_a - 1)

    Parameters
    ----------
    population : ndarray (P, P)
    single : ndarray (P,)
        A_a at the same lag or frequency.
    sizes : ndarray (P,)
    """
    out = np.array(population)
    sizes, single = np.atleast_1d(sizes), np.atleast_1d(single)
    for a, n in enumerate(sizes):
        out[a, a] = (n * out[a, a] - single[a]) / (n - 1)
    return out


def population_covariance_in_time(response, mean, single, sizes, dt, common=None):
    """Two-time covariance of the population means, by forward substitution.

    Parameters
    ----------
    response : ndarray (P, T, T)
        ``R_a(t, s) = d<y_a(t)>/d mu_a(s)`` per time: strictly lower triangular, the response density (a kick of size e
        in one step of mu changes y by ``e dt R``).
    mean : ndarray (P, P) or (P, P, T, T)
        M_ab, or operators with filter and delay (matrices that turn Y_b(t) into its part of the input, lower
        triangular).
    single : ndarray (P, T, T)
        A_a(t, s).
    sizes : ndarray (P,)
    dt : float
    common : ndarray (P, P, T, T), optional
        Covariance C_x of shared input.

    Returns
    -------
    ndarray (P, P, T, T)
        ``Cov[Y_a(t), Y_b(s)]``.

    Raises
    ------
    InputError
        A response looks into the future, or the covariance overflows: the state is unstable in this window.

    Notes
    -----
    One triangular solve of size P T: (P T)^3/3.
    """
    from scipy.linalg import solve_triangular

    response, single = np.asarray(response, float), np.asarray(single, float)
    n, t = single.shape[:2]
    if np.any(np.triu(response)):
        raise InputError("the response at a time depends on input at the same or a later time: valid is t > s")
    loop = np.zeros((t, n, t, n))  # time-major: one lower triangular matrix
    for a in range(n):
        for b in range(n):
            m = np.asarray(mean[a][b], float)
            loop[:, a, :, b] = dt * (response[a] * m if m.ndim == 0 else response[a] @ m)
    source = np.zeros((t, n, t, n))
    for a in range(n):
        source[:, a, :, a] = single[a] / sizes[a]
    if common is not None:
        for a in range(n):
            for b in range(n):
                source[:, a, :, b] += dt * dt * response[a] @ common[a][b] @ response[b].T
    matrix = np.eye(n * t) - loop.reshape(n * t, n * t)
    with np.errstate(over="ignore", invalid="ignore"):
        half = solve_triangular(matrix, source.reshape(n * t, n * t), lower=True, unit_diagonal=True)
        out = solve_triangular(matrix, half.T, lower=True, unit_diagonal=True).T
    if not np.isfinite(out).all():
        raise InputError("the covariance of the population means grows without bound: the state is unstable")
    return np.ascontiguousarray(out.reshape(t, n, t, n).transpose(1, 3, 0, 2))


def determinant(response, mean):
    """``det(1 - R(w) M(w))`` at all frequencies (F,).  Arguments: :func:`population_spectrum`."""
    loop = _loop(response, mean)
    return np.linalg.det(np.eye(loop.shape[1]) - loop)


def winding(determinant):
    """Turns of a real system's determinant around 0 as w runs over the real line, from its values at w >= 0.

    >>> w = np.linspace(0, 100, 20001)
    >>> winding(1 - 0.5 / (1 + 1j * w)), winding(1 - 2.0 / (1 + 1j * w))
    (0, 1)
    """
    phase = np.unwrap(np.angle(determinant))
    return round(abs(phase[-1] - phase[0]) / np.pi)


def unstable_modes(omega, response, mean):
    """Number of growing modes: how often ``det(1 - R M)`` circles the origin (Nyquist's criterion).

    Parameters
    ----------
    omega : ndarray (F,)
        Ascending, from far below to far above all rates of the model, fine enough that the determinant turns by less
        than half a circle between two of them.
    response : ndarray (P, F)
        Responses of the single neurons, which are stable; convention ``R(w) = int R(t) exp(-i w t) dt``.
    mean : ndarray (F, P, P) or (P, P)

    Raises
    ------
    InputError
        The frequencies are too coarse or too few to count.

    Examples
    --------
    >>> import numpy as np
    >>> w = np.linspace(-200, 200, 20001)
    >>> [unstable_modes(w, 1 / (1 + 1j * w)[None], np.array([[m]])) for m in (0.5, 2.0)]
    [0, 1]
    """
    order = np.argsort(omega)
    d = determinant(response, mean)[order]
    if np.min(np.abs(d)) < 1e-12:
        raise InputError("det(1 - R M) vanishes at one of the frequencies: the state is at a transition")
    if max(abs(d[0] - 1), abs(d[-1] - 1)) > 0.3:
        raise InputError(
            f"det(1 - R M) is {d[-1]:.3g} at the largest frequency, far from its limit 1: give larger frequencies"
        )
    turns = np.angle(d[1:] / d[:-1])
    if np.max(np.abs(turns)) > 2.0:
        raise InputError("det(1 - R M) turns by more than 2 radians between two frequencies: give a finer grid")
    total = (turns.sum() - np.angle(d[-1]) + np.angle(d[0])) / (2 * np.pi)
    # zeros in the lower half of w (growth) are circled clockwise by the closed path above them
    return -round(float(total))


def spectral_radius(variance, response):
    """Radius of the bulk of the effective connectivity: ``sqrt(max |eig(R_a^2 V_ab)|)``; 1 is the transition.

    Parameters
    ----------
    variance : ndarray (P, P)
        V_ab.
    response : ndarray (P,)
        R_a(0), or the root mean square slope of a rate neuron.

    Examples
    --------
    >>> round(spectral_radius(np.array([[4.0]]), np.array([0.4])), 12)
    0.8
    """
    variance = np.atleast_2d(np.asarray(variance, float))
    squared = np.abs(np.atleast_1d(response)) ** 2
    return float(np.sqrt(np.max(np.abs(np.linalg.eigvals(squared[:, None] * variance)))))
