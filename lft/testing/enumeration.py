"""Exact moments of small lattices by summing over all states, up to 20 binary sites.

Weights are ``exp(+sum K s s' + sum h s)`` for spins and ``exp(-S)`` for 0/1 fields. Bonds follow the rules of
:mod:`lft.testing.oracles`; the code does not share a line with it, so that each checks the other.
"""

from typing import NamedTuple

import numpy as np

from lft.errors import InputError

MAX_SITES = 20                # 2**20 states


class LatticeMoments(NamedTuple):
    """Exact moments of an Ising lattice; m = mean spin of the active sites."""

    log_z: float
    mean_field: np.ndarray    # <s_x>, shape of the lattice, 0 on inactive sites
    bonds: dict               # displacement -> <s_x s_{x+d}> averaged over its bonds; 0 if there is none
    n_bonds: dict             # displacement -> number of these bonds
    m: float
    abs_m: float
    m2: float
    m4: float


class NeuralMoments(NamedTuple):
    """Exact moments of the 0/1 space-time field."""

    log_z: float
    action: float             # <S>; the entropy is log_z + action
    phi: np.ndarray           # <phi_i^a>, shape (T, N)
    Phi: np.ndarray           # <(1/T) sum_a phi_i^a phi_j^a>, shape (N, N)
    Pi: np.ndarray            # <(1/N) sum_i phi_i^a phi_i^b>, shape (T, T)


def enumerate_states(n, kind="spin"):
    """All configurations of n binary sites.

    Parameters
    ----------
    n : int
        Number of sites, 1 to 20.
    kind : {"spin", "gas"}, optional
        Values -1, +1 or 0, 1.

    Returns
    -------
    ndarray of int8, shape (2**n, n)
        Bit i of the row index is the value of site i (set bit: +1 or 1).

    Raises
    ------
    InputError
        n or kind out of range.

    Notes
    -----
    Cost: n 2**n bytes.

    Examples
    --------
    >>> enumerate_states(2, "gas").tolist()
    [[0, 0], [1, 0], [0, 1], [1, 1]]
    """
    if not isinstance(n, (int, np.integer)) or not 1 <= n <= MAX_SITES:
        raise InputError(f"n = {n!r}: enumeration needs 1 to {MAX_SITES} sites")
    if kind not in ("spin", "gas"):
        raise InputError(f"kind = {kind!r}: give 'spin' or 'gas'")
    bits = (np.arange(2**n)[:, None] >> np.arange(n) & 1).astype(np.int8)
    return bits if kind == "gas" else (2 * bits - 1).astype(np.int8)


def enumerate_lattice(shape, couplings, h=0.0, periodic=True, mask=None):
    """Exact moments of a small Ising lattice with any translation-invariant two-spin couplings.

        weight = exp( + sum_d K_d sum_x s_x s_{x+d} + sum_x h_x s_x )

    Parameters
    ----------
    shape : tuple of int
        Extents; at most 20 active sites.
    couplings : dict {tuple of int: float}
        K_d for each displacement d, not zero; d and -d are two different entries that both count.
    h : float or array_like of that shape, optional
        Field.
    periodic : bool or sequence of bool, optional
        Per axis. A displacement that leaves an open axis contributes nothing, nor does one that leads back to
        its own site; a periodic axis of extent 1 counts as open. On a periodic axis of extent 2 a pair of
        neighbors has two bonds.
    mask : array_like of bool, optional
        True for active sites; bonds to inactive sites contribute nothing.

    Returns
    -------
    LatticeMoments
        log_z, mean_field, bonds, n_bonds, m, abs_m, m2, m4.

    Raises
    ------
    InputError
        Too many or no active sites, or shapes that do not fit.

    Notes
    -----
    Cost: O(n^2 2^n), about a second at n = 20.

    Examples
    --------
    >>> moments = enumerate_lattice((2, 2), {(1, 0): 0.3, (0, 1): 0.3})
    >>> round(moments.log_z, 6), moments.n_bonds[1, 0]
    (3.533038, 4)
    """
    mask = np.ones(shape, dtype=bool) if mask is None else np.asarray(mask, dtype=bool)
    h, periodic = np.asarray(h, dtype=float), np.asarray(periodic, dtype=bool)
    if periodic.shape not in ((), (len(shape),)):
        raise InputError(f"periodic has shape {periodic.shape}: give one, or one per axis ({len(shape)})")
    if mask.shape != tuple(shape) or h.shape not in ((), mask.shape):
        raise InputError(f"mask has shape {mask.shape} and h {h.shape}: both must fit the lattice, "
                         f"{tuple(shape)}")
    counts = {d: count_bonds(d, mask, periodic) for d in couplings}
    states = enumerate_states(int(mask.sum()), "spin")
    pairs = np.zeros((mask.sum(), mask.sum()))
    for d, K in couplings.items():
        pairs += K * counts[d]
    log_z, p, first, second = _gibbs(states, pairs, np.broadcast_to(h, mask.shape)[mask])
    mean_field = np.zeros(mask.shape)
    mean_field[mask] = first
    n_bonds = {d: int(c.sum()) for d, c in counts.items()}
    bonds = {d: float((c * second).sum() / max(n_bonds[d], 1)) for d, c in counts.items()}
    m = states.mean(axis=1)
    return LatticeMoments(log_z, mean_field, bonds, n_bonds, *(float(p @ x) for x in (m, abs(m), m**2, m**4)))


def enumerate_neural(A, B, I, T, periodic_time=False):
    """Exact moments of a small 0/1 space-time field: couplings A in space, B in time, input I.

        S = sum_a sum_{ij} A_ij phi_i^a phi_j^a + sum_i sum_{a != b} B(|a-b|) phi_i^a phi_i^b
            + sum_ia I_i^a phi_i^a

    with weight ``exp(-S)``; sums over ordered pairs, so every pair counts twice. With periodic time the
    second term is ``sum_i sum_k sum_a 2 B(k) phi_i^a phi_i^{(a+k) mod T}``: once per a and lag, without pairs
    of a time with itself.

    Parameters
    ----------
    A : array_like, shape (N, N)
        Symmetric, zero diagonal.
    B : dict {int: float}
        Coupling of each lag k >= 1; lags beyond the last time contribute nothing on open time.
    I : array_like, shape (N,) or (T, N)
        External input.
    T : int
        Number of times; N T <= 20.
    periodic_time : bool, optional

    Returns
    -------
    NeuralMoments
        log_z, action (its mean), phi, Phi, Pi.

    Raises
    ------
    InputError
        Too many sites, shapes that do not fit, A not symmetric with zero diagonal, a lag below 1.

    Notes
    -----
    Cost: O(n^2 2^n), n = N T.

    Examples
    --------
    >>> moments = enumerate_neural([[0, -0.3], [-0.3, 0]], {1: -0.25}, [0.5, 0.5], T=3)
    >>> round(moments.log_z, 10), round(moments.action, 10)
    (3.7040818737, 0.3521727118)
    """
    A, I = np.asarray(A, dtype=float), np.asarray(I, dtype=float)
    N = len(A) if A.ndim else 0
    if A.shape != (N, N) or not np.array_equal(A, A.T) or np.diag(A).any():
        raise InputError(f"A has shape {A.shape}: give (N, N), symmetric, with zero diagonal")
    if I.shape not in ((N,), (T, N)):
        raise InputError(f"I has shape {I.shape}: give ({N},) or ({T}, {N})")
    if any(lag < 1 for lag in B):
        raise InputError(f"B has lags {sorted(B)}: give lags >= 1; one-body terms belong to I")
    in_time = np.zeros((T, T))
    for lag, value in B.items():
        in_time += 2 * value * count_bonds((lag,), np.ones(T, dtype=bool), [periodic_time])
    pairs = np.kron(np.eye(T), A) + np.kron(in_time, np.eye(N))          # site (a, i) is a N + i
    field = np.broadcast_to(I, (T, N)).ravel()
    log_z, _, first, second = _gibbs(enumerate_states(N * T, "gas"), -pairs, -field)
    action = float((pairs * second).sum() + field @ first)
    second = second.reshape(T, N, T, N)
    return NeuralMoments(log_z, action, first.reshape(T, N), np.einsum("aiaj->ij", second) / T,
                         np.einsum("aibi->ab", second) / N)


def count_bonds(displacement, mask, periodic):
    """Matrix over active sites, [x, y] = number of bonds from x that end at y."""
    if len(displacement) != mask.ndim or not any(displacement):
        raise InputError(f"displacement {displacement} does not fit {mask.ndim} axes, or is zero")
    source = np.argwhere(mask)
    target = source + np.asarray(displacement)
    target = np.where(np.asarray(periodic) & (np.array(mask.shape) > 1), target % mask.shape, target)
    exists = ((target >= 0) & (target < mask.shape)).all(axis=1) & (target != source).any(axis=1)
    number = np.full(mask.shape, -1)
    number[mask] = np.arange(len(source))
    ends = number[tuple(target[exists].T)]
    counts = np.zeros((len(source), len(source)))
    np.add.at(counts, (np.flatnonzero(exists)[ends >= 0], ends[ends >= 0]), 1)
    return counts


def _gibbs(states, pairs, field):
    """ln Z, probabilities, first and second moments of the weight ``exp(x pairs x + field x)``."""
    # In chunks, so that the copies as floats stay small.
    chunks = [slice(start, start + 2**16) for start in range(0, len(states), 2**16)]
    log_w = np.empty(len(states))
    for chunk in chunks:
        x = states[chunk].astype(float)
        log_w[chunk] = ((x @ pairs) * x).sum(axis=1) + x @ field
    top = log_w.max()
    w = np.exp(log_w - top)
    p = w / w.sum()
    first, second = np.zeros(len(field)), np.zeros((len(field), len(field)))
    for chunk in chunks:
        x = states[chunk].astype(float)
        first += p[chunk] @ x
        second += x.T @ (p[chunk, None] * x)
    return float(top + np.log(w.sum())), p, first, second
