"""Slow implementations that are obviously right: one loop per sum of the formula, no tricks.

Conventions, the same as in the engine: the weight is ``exp(-S)``; arrays are in the user's axis order; a bond
joins a site to the site at a displacement. On an open axis a displacement that leaves the lattice contributes
nothing, on a periodic axis it wraps; a bond to an inactive site contributes nothing. On a periodic axis of
extent 2 the displacement +1 counts once from each of the two sites: the pair counts twice. A periodic axis of
extent 1 has no bonds: it counts as open.
"""

import numpy as np

from lft.errors import InputError


def ising_action(spins, couplings, h, periodic, mask=None):
    """Action of Ising spins with any translation-invariant two-spin couplings.

        S = - sum_d K_d sum_x s_x s_{x+d} - sum_x h_x s_x

    Parameters
    ----------
    spins : array_like of -1 and +1, any shape
        One spin per site; what inactive sites hold does not matter.
    couplings : dict {tuple of int: float}
        K_d for each displacement d; d and -d are two different entries that both count.
    h : float or array_like
        Field, one number or the shape of the lattice.
    periodic : bool or sequence of bool
        Per axis.
    mask : array_like of bool, optional
        True for active sites. Default: all.

    Returns
    -------
    float

    Raises
    ------
    InputError
        Shapes that do not fit, a spin that is not -1 or +1, a zero displacement.

    Notes
    -----
    Cost: O(sites x displacements) Python steps.

    Examples
    --------
    >>> ising_action([1, 1, -1], {(1,): 0.5}, 0.1, periodic=False)     # bonds +1, -1; sum of spins 1
    -0.1
    """
    spins, mask, periodic = _check_field(spins, mask, periodic)
    if not np.isin(spins[mask], (-1, 1)).all():
        raise InputError("spins must be -1 or +1 on every active site")
    h = _site_values("h", h, spins.shape)
    action = 0.0
    for displacement, K in couplings.items():
        if len(displacement) != spins.ndim or not any(displacement):
            raise InputError(f"displacement {displacement} does not fit {spins.ndim} axes, or is zero")
        for x in np.ndindex(spins.shape):
            y = _neighbor(x, displacement, spins.shape, periodic)
            if y is not None and mask[x] and mask[y]:
                action -= K * spins[x] * spins[y]
    for x in np.ndindex(spins.shape):
        if mask[x]:
            action -= h[x] * spins[x]
    return float(action)


def phi4_action(phi, kappa, lam, periodic, mask=None):
    """Action of the real scalar field with quartic self-interaction, hopping form.

        S = sum_x [ -2 sum_axis kappa_axis phi_x phi_{x+axis} + phi_x^2 + lam (phi_x^2 - 1)^2 ]

    Parameters
    ----------
    phi : array_like, any shape
        The field.
    kappa : float or sequence of float
        Hopping parameter, one number or one per axis.
    lam : float or array_like
        Quartic coupling, one number or the shape of the lattice.
    periodic : bool or sequence of bool
        Per axis.
    mask : array_like of bool, optional
        True for active sites; inactive sites contribute no term at all.

    Returns
    -------
    float

    Raises
    ------
    InputError
        Shapes that do not fit.

    Notes
    -----
    Cost: O(sites x axes) Python steps.

    Examples
    --------
    >>> phi4_action([1.0, 2.0], kappa=0.25, lam=1.0, periodic=False)     # -2*0.25*2 + (1 + 4) + (0 + 9)
    13.0
    """
    phi, mask, periodic = _check_field(phi, mask, periodic)
    kappa, lam = _axis_values("kappa", kappa, phi.ndim), _site_values("lam", lam, phi.shape)
    action = 0.0
    for x in np.ndindex(phi.shape):
        if not mask[x]:
            continue
        action += phi[x]**2 + lam[x] * (phi[x]**2 - 1)**2
        for axis in range(phi.ndim):
            y = _neighbor(x, _unit(axis, phi.ndim), phi.shape, periodic)
            if y is not None and mask[y]:
                action -= 2 * kappa[axis] * phi[x] * phi[y]
    return float(action)


def phi4_force(phi, kappa, lam, periodic, mask=None):
    """Force of :func:`phi4_action`, minus the derivative of the action.

        F_x = -dS/dphi_x = 2 sum_axis kappa_axis (phi_{x+axis} + phi_{x-axis})
                           - 2 phi_x - 4 lam phi_x (phi_x^2 - 1)

    Parameters
    ----------
    phi, kappa, lam, periodic, mask
        As for :func:`phi4_action`.

    Returns
    -------
    ndarray, shape of `phi`
        0 on inactive sites.

    Raises
    ------
    InputError
        Shapes that do not fit.

    Notes
    -----
    Cost: O(sites x axes) Python steps.

    Examples
    --------
    >>> phi4_force([1.0, 2.0], kappa=0.25, lam=1.0, periodic=False).tolist()
    [-1.0, -27.5]
    """
    phi, mask, periodic = _check_field(phi, mask, periodic)
    kappa, lam = _axis_values("kappa", kappa, phi.ndim), _site_values("lam", lam, phi.shape)
    force = np.zeros(phi.shape)
    for x in np.ndindex(phi.shape):
        if not mask[x]:
            continue
        force[x] = -2 * phi[x] - 4 * lam[x] * phi[x] * (phi[x]**2 - 1)
        for axis in range(phi.ndim):
            for step in (+1, -1):
                y = _neighbor(x, _unit(axis, phi.ndim, step), phi.shape, periodic)
                if y is not None and mask[y]:
                    force[x] += 2 * kappa[axis] * phi[y]
    return force


def pairwise_action(s, J, h):
    """Action of spins with pair couplings: S = - sum_a [sum_(i<j) J_ij s_i^a s_j^a + sum_i h_i s_i^a].

    Parameters
    ----------
    s : array_like of -1 and +1, shape (T, N)
        One row per bin, or chain.
    J : array_like, shape (N, N)
        Symmetric, zero diagonal.
    h : array_like, shape (N,)

    Returns
    -------
    float

    Notes
    -----
    Cost: O(T N^2) Python steps.

    Examples
    --------
    >>> pairwise_action([[1, 1], [1, -1]], [[0, 0.5], [0.5, 0]], [0.25, 0.0])  # -(0.5 + 0.25) - (-0.5 + 0.25)
    -0.5
    """
    total = 0.0
    for row in s:
        for i in range(len(row)):
            total -= h[i] * row[i]
            for j in range(i + 1, len(row)):
                total -= J[i][j] * row[i] * row[j]
    return float(total)


def neural_action(phi, A, B, I, periodic_time=False):
    """Action of the 0/1 space-time field: couplings A in space, B in time, external input I.

        S = sum_a sum_{ij} A_ij phi_i^a phi_j^a + sum_i sum_{a != b} B(|a-b|) phi_i^a phi_i^b
            + sum_ia I_i^a phi_i^a

    Sums run over ordered pairs, so every pair counts twice. With periodic time the second term is
    ``sum_i sum_k sum_a 2 B(k) phi_i^a phi_i^{(a+k) mod T}``, a over all T times, without pairs of a time with
    itself.

    Parameters
    ----------
    phi : array_like of 0 and 1, shape (T, N)
        The kernel, time first.
    A : array_like, shape (N, N)
        Symmetric, zero diagonal.
    B : dict {int: float}
        Coupling of each lag k >= 1; lags beyond the last time contribute nothing on open time.
    I : array_like, shape (N,) or (T, N)
        External input.
    periodic_time : bool, optional

    Returns
    -------
    float

    Raises
    ------
    InputError
        Shapes that do not fit, an entry that is not 0 or 1, A not symmetric with zero diagonal, a lag below
        1.

    Notes
    -----
    Cost: O(T N^2 + N T lags) Python steps.

    Examples
    --------
    >>> neural_action([[1, 1], [1, 0]], [[0, 0.5], [0.5, 0]], {1: -1.0}, [0.25, 0.25])  # 1 - 2 + 3/4
    -0.25
    """
    phi = np.asarray(phi)
    if phi.ndim != 2 or not np.isin(phi, (0, 1)).all():
        raise InputError(f"phi has shape {phi.shape}: give (T, N) with entries 0 and 1")
    T, N = phi.shape
    A, I = np.asarray(A, dtype=float), np.asarray(I, dtype=float)
    if A.shape != (N, N) or not np.array_equal(A, A.T) or np.diag(A).any():
        raise InputError(f"A has shape {A.shape}: give ({N}, {N}), symmetric, with zero diagonal")
    if I.shape not in ((N,), (T, N)):
        raise InputError(f"I has shape {I.shape}: give ({N},) or ({T}, {N})")
    I = np.broadcast_to(I, (T, N))
    action = 0.0
    for a in range(T):
        for i in range(N):
            action += I[a, i] * phi[a, i]
            for j in range(N):
                action += A[i, j] * phi[a, i] * phi[a, j]
            for lag, value in B.items():
                if lag < 1:
                    raise InputError(f"lag {lag} in B: give lags >= 1; one-body terms belong to I")
                b = (a + lag) % T if periodic_time else a + lag
                if b < T and b != a:
                    action += 2 * value * phi[a, i] * phi[b, i]
    return float(action)


def k_pairwise_action(phi, A, I, V):
    """Action of 0/1 units with a potential of the count: S = sum_a [sum_ij A_ij phi_i phi_j + sum_i I_i phi_i - V(K)].

    Parameters
    ----------
    phi : array_like of 0 and 1, shape (T, N)
    A : array_like, shape (N, N)
        Symmetric, zero diagonal; ordered pairs.
    I : array_like, shape (N,)
    V : array_like, shape (N + 1,)
        Log-odds.

    Returns
    -------
    float

    Notes
    -----
    Cost: O(T N^2) Python steps.

    Examples
    --------
    >>> k_pairwise_action([[1, 1], [1, 0]], [[0, 0.5], [0.5, 0]], [0.25, 0.25], [0.0, 0.5, 2.0])  # 1 + 3/4 - 2 - 1/2
    -0.75
    """
    return neural_action(phi, A, {}, I) - float(sum(V[int(sum(row))] for row in phi))


def lagged_action(phi, A, I, C, periodic_time=False):
    """Action of 0/1 units with directed couplings at lags:

        S = sum_a [sum_ij A_ij phi_i^a phi_j^a + sum_i I_i phi_i^a] - sum_kija C[k-1][i][j] phi_i^a phi_j^(a-k)

    Parameters
    ----------
    phi : array_like of 0 and 1, shape (T, N)
    A : array_like, shape (N, N)
    I : array_like, shape (N,)
    C : array_like, shape (K, N, N)
        Row = target, the later bin.
    periodic_time : bool, optional
        a - k counts modulo T; a bin is not joined with itself.

    Returns
    -------
    float

    Notes
    -----
    Cost: O(T N^2 K) Python steps.

    Examples
    --------
    >>> lagged_action([[0, 1], [1, 1]], [[0, 0], [0, 0]], [0.25, 0.25], [[[0, 0.5], [0, 1.0]]])  # 3/4 - 1/2 - 1
    -0.75
    """
    T, N = np.shape(phi)
    action = neural_action(phi, A, {}, I)
    for k, matrix in enumerate(C, 1):
        for a in range(T):
            b = (a - k) % T if periodic_time else a - k
            if b < 0 or b == a or k >= T:
                continue
            for i in range(N):
                for j in range(N):
                    action -= matrix[i][j] * phi[a][i] * phi[b][j]
    return float(action)


def philox4x32(counter, key):
    """Philox4x32-10: 128 random bits as a function of a 128-bit counter and a 64-bit key.

    Ten rounds of ``(c0, c1, c2, c3) -> (hi(M1 c2) ^ c1 ^ k0, lo(M1 c2), hi(M0 c0) ^ c3 ^ k1, lo(M0 c0))``,
    the key words raised by 0x9E3779B9 and 0xBB67AE85 between rounds; M0 = 0xD2511F53, M1 = 0xCD9E8D57; all
    words have 32 bits.

    Parameters
    ----------
    counter : sequence of 4 int
        Words in [0, 2**32).
    key : sequence of 2 int
        Words in [0, 2**32).

    Returns
    -------
    tuple of 4 int
        Words in [0, 2**32).

    Raises
    ------
    InputError
        Wrong number of words, or a word out of range.

    Notes
    -----
    Cost: 20 integer products. The examples are the published known-answer vectors.

    References
    ----------
    J. K. Salmon, M. A. Moraes, R. O. Dror, D. E. Shaw, Parallel random numbers: as easy as 1, 2, 3, SC11
    (2011), doi 10.1145/2063384.2063405.

    Examples
    --------
    >>> def show(counter, key): print(*(f"{word:08x}" for word in philox4x32(counter, key)))
    >>> show((0, 0, 0, 0), (0, 0))
    6627e8d5 e169c58d bc57ac4c 9b00dbd8
    >>> ones = 0xffffffff
    >>> show((ones, ones, ones, ones), (ones, ones))
    408f276d 41c83b0e a20bc7c6 6d5451fd
    >>> show((0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344), (0xa4093822, 0x299f31d0))
    d16cfe09 94fdcceb 5001e420 24126ea1
    """
    counter, key = [int(word) for word in counter], [int(word) for word in key]
    if len(counter) != 4 or len(key) != 2 or not all(0 <= word < 2**32 for word in counter + key):
        raise InputError(f"counter {counter} and key {key}: give 4 and 2 words, each in [0, 2**32)")
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c0, 0xCD9E8D57 * c2
        c0, c1, c2, c3 = (p1 >> 32) ^ c1 ^ k0, p1 & 0xFFFFFFFF, (p0 >> 32) ^ c3 ^ k1, p0 & 0xFFFFFFFF
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return c0, c1, c2, c3


def _neighbor(x, displacement, shape, periodic):
    """Site at x + displacement, or None where there is no bond."""
    y = []
    for position, step, extent, is_periodic in zip(x, displacement, shape, periodic, strict=True):
        target = position + step
        if is_periodic:
            target %= extent
        elif not 0 <= target < extent:
            return None
        y.append(target)
    return None if tuple(y) == x else tuple(y)


def _unit(axis, n_axes, step=1):
    return tuple(step if i == axis else 0 for i in range(n_axes))


def _check_field(field, mask, periodic):
    field = np.asarray(field, dtype=float)               # int8 squares would overflow
    if field.ndim == 0:
        raise InputError("the field has no axis: give an array with at least one")
    mask = np.ones(field.shape, dtype=bool) if mask is None else np.asarray(mask, dtype=bool)
    if mask.shape != field.shape:
        raise InputError(f"mask has shape {mask.shape} but the field has {field.shape}")
    periodic = [p and n > 1 for p, n in zip(_axis_values("periodic", periodic, field.ndim), field.shape, strict=True)]
    return field, mask, periodic


def _axis_values(name, values, n_axes):
    if np.ndim(values) == 0:
        return [values] * n_axes
    if len(values) != n_axes:
        raise InputError(f"{name} has {len(values)} values but the lattice has {n_axes} axes: "
                         "give one for all, or one per axis")
    return list(values)


def _site_values(name, values, shape):
    if np.ndim(values) and np.shape(values) != shape:
        raise InputError(f"{name} has shape {np.shape(values)}: give one number, or the shape of the "
                         f"lattice, {shape}")
    return np.broadcast_to(np.asarray(values, dtype=float), shape)
