"""The translation-invariant fit as an auxiliary estimator: couplings, and how each configuration moves them.

For many configurations of one lattice with one common field; what :func:`lft.inference.lattice_fit.fit_lattice` gives
for the whole, beside the *influence* of every configuration,

    c - c_true = sum_i u_i,     u_i = H^-1 g_i

with ``g_i`` the score of configuration i at the maximum and ``H`` the information of all.
"""

from __future__ import annotations

import numpy as np

from lft.errors import DivergenceError, InputError
from lft.inference import newton
from lft.inference.lattice_fit import _checked_displacements, _checked_fields, _maximum
from lft.inference.patterns import PatternCounter
from lft.inference.result import coupling_name

CHUNK_SITES = 2**18


def lattice_estimator(displacements, start=None):
    """An estimator ``fields -> (values, influences)`` of the couplings at these displacements and a common field.

    With companion fields w of every configuration it also gives ``r_i = H^-1 sum_x g_i(x) w_i(x)``, g the score of a
    site: for w the fluctuations of an operator around x their sum over i is a derivative of the couplings.

    Parameters
    ----------
    displacements : sequence of tuple of int
        User's axis order, at most 22.
    start : sequence of float, optional
        Where the maximization begins (couplings, then h); a good guess saves half of it and changes nothing else.

    Returns
    -------
    callable
        ``names``: ``K[...]`` in this order, then ``h``.  Called with spin fields on one lattice it returns the
        pseudo-likelihood maximum (n_c,) and the influences (number of fields, n_c).  Raises InputError or
        DivergenceError as :func:`lft.inference.lattice_fit.fit_lattice` does.  A second argument ``companions(first,
        last)``, the companion fields (last - first, n_w, *storage shape) of a stretch of configurations, adds the
        responses (number of fields, n_c, n_w) to what is returned.

    Notes
    -----
    Cost: one pass of pattern counting, about 3 ns per site and displacement for the influences, and a matrix product
    of (n_c x sites) with (sites x n_w) per field for the responses.

    Examples
    --------
    >>> import numpy as np
    >>> from lft.field import Field
    >>> from lft.geometry import Lattice
    >>> lattice, rng = Lattice((16, 16)), np.random.default_rng(1)
    >>> fields = [Field.from_array(lattice, "spin", rng.choice([-1, 1], (16, 16))) for _ in range(50)]
    >>> values, influences = lattice_estimator([(1, 0), (0, 1)])(fields)
    >>> values.shape, influences.shape, bool(abs(influences.sum(axis=0)).max() < 1e-6)
    ((3,), (50, 3), True)
    """
    vectors = tuple(tuple(int(x) for x in d) for d in displacements)

    def estimator(fields, companions=None):
        checked = _checked_fields(fields)
        _checked_displacements(checked[0].geometry, vectors)
        counter = PatternCounter(checked, vectors, False)
        patterns = counter.count((0, counter.n_rows))
        plus, minus = np.array([patterns.plus.sum()]), np.array([patterns.minus.sum()])
        if not (plus[0] and minus[0]):
            raise InputError("every site has the same value: nothing to fit")
        if start is None:
            h, k, information = _maximum(patterns, vectors, plus, minus)
        else:
            h, k, information = _from(np.asarray(start, float), patterns, vectors, plus, minus)
        def solved(rows):  # (..., h first) -> (..., h last)
            columns = np.ascontiguousarray(rows.reshape(-1, rows.shape[-1]).T)
            return np.roll(newton.ArrowInformation.solve(information, columns).T, -1, axis=1).reshape(rows.shape)

        scores, products = field_scores(checked, vectors, h[0], k, companions)
        found = np.append(k, h), solved(scores)
        return found if companions is None else (*found, solved(products).transpose(0, 2, 1))

    estimator.names = (*map(coupling_name, vectors), "h")
    estimator.displacements = vectors
    return estimator


def _from(start, patterns, vectors, plus, minus):
    def evaluate(theta):
        value, gradient, information = patterns.evaluate(theta[:1], theta[1:])
        return value, gradient, information.damped

    try:
        theta, _, information = newton.maximize(evaluate, np.append(start[-1], start[:-1]))
    except (DivergenceError, np.linalg.LinAlgError):
        return _maximum(patterns, vectors, plus, minus)
    if information.weak_directions():  # says which couplings have no maximum, and why
        return _maximum(patterns, vectors, plus, minus)
    return theta[:1], theta[1:], information


def field_scores(fields, vectors, h, k, companions=None):
    """Gradient of the pseudo-log-likelihood of each field, (number of fields, 1 + n_d): h first, then K.

    And its sums against companion fields, (number of fields, n_w, 1 + n_d), None without them.
    """
    lattice = fields[0].geometry
    mask = lattice.storage_mask()
    stored = [lattice.storage_displacement(d) for d in vectors]
    out, products = np.empty((len(fields), 1 + len(vectors))), []
    step = max(CHUNK_SITES // lattice.n_sites, 1)
    for a in range(0, len(fields), step):
        spins = np.stack([_spins(f, mask) for f in fields[a : a + step]])
        sums = [_neighbors(spins, v, lattice.storage_periodic) for v in stored]
        local = np.full(spins.shape, h, np.float32)
        for K, f in zip(k, sums, strict=True):
            local += np.float32(K) * f
        residual = (spins - np.tanh(local)).astype(np.float32)
        if mask is not None:
            residual *= mask
        flat = residual.reshape(len(spins), -1)
        out[a : a + step, 0] = flat.sum(axis=1, dtype=np.float64)
        for d, f in enumerate(sums):
            out[a : a + step, 1 + d] = (flat * f.reshape(len(spins), -1)).sum(axis=1, dtype=np.float64)
        if companions is not None:
            w = companions(a, a + len(spins)).reshape(len(spins), -1, flat.shape[1])
            g = np.stack([flat, *(flat * f.reshape(flat.shape) for f in sums)], axis=2)
            products.append(w @ g)
    # the maximum is that of double precision; here single is enough
    return out - out.mean(axis=0), np.concatenate(products).astype(float) if products else None


def _spins(phi, mask):
    values = phi.values
    if phi.kind == "gas":
        values = 2 * values - 1
        if mask is not None:
            values = values * mask
    return values


def _neighbors(spins, vector, periodic):
    """``s_{x+d} + s_{x-d}`` for a stack of configurations, 0 where no site exists."""
    total = np.zeros(spins.shape, np.int8)
    for sign in (1, -1):
        source, target, shifted = [slice(None)] * spins.ndim, [slice(None)] * spins.ndim, spins
        for axis, (step, is_periodic) in enumerate(zip(vector, periodic, strict=True), start=1):
            step = sign * step
            if not step:
                continue
            if is_periodic:
                shifted = np.roll(shifted, -step, axis)
                continue
            n = spins.shape[axis]
            source[axis] = slice(max(step, 0), n + min(step, 0))
            target[axis] = slice(max(-step, 0), n + min(-step, 0))
        total[tuple(target)] += shifted[tuple(source)]
    return total


