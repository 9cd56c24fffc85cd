"""Surrogates of a recording: what its exponents are if the units do not interact.

| null | keeps | destroys |
|---|---|---|
| ``shuffled`` | the values of each unit | all order in time, all correlations between units |
| ``circular`` | the whole train of each unit, its autocorrelation included | what units have in common at equal times |
| ``independent`` | the rate of each unit (0/1 with the same probability; optionally its slow changes) | all else |
| ``latent`` | rates, and what a few shared Gaussian inputs can carry (:mod:`.latent`) | interaction |

Each surrogate is a pure function of the seed: numbers are drawn by unit and bin (:mod:`lft.rng`).  All take and give
activity of shape (T, N), time first; silent units stay silent.
"""

from __future__ import annotations

import numpy as np

from lft.errors import InputError
from lft.rng import Key, Stream


def shuffled(values, key):
    """The bins of every unit in random order, independently for each unit.

    Parameters
    ----------
    values : array_like, shape (T, N)
    key : Key

    Returns
    -------
    ndarray, shape (T, N)
        Each column is a permutation of the column of `values`; all permutations are equally likely.

    Notes
    -----
    Cost: about as many random numbers as events; 0.2 s for 1152 units with 0.6 % of 90000 bins active.

    Examples
    --------
    >>> import numpy as np
    >>> from lft.rng import Key
    >>> from lft.rg.phenomenological.surrogates import shuffled
    >>> x = np.arange(20).reshape(10, 2) % 3
    >>> (np.sort(shuffled(x, Key(1)), axis=0) == np.sort(x, axis=0)).all()
    np.True_
    """
    rows = _rows(values)
    out = np.zeros_like(rows)
    for i, row in enumerate(rows):
        events = row[row != 0]
        out[i, _places(key, len(events), len(row), i)] = events
    return out.T


def _places(key, n, n_bins, unit):
    """n different bins in random order."""
    if n > n_bins // 4:
        return np.argsort(_uniforms(key, n_bins, unit, Stream.SHUFFLE))[:n]
    draws, first, bins = n, np.empty(0, np.int64), np.empty(0, np.int64)
    while len(first) < n:  # the first n different ones of one endless sequence of uniform bins
        draws += n * n // n_bins + 32
        bins = (key.fill("uniform", 0, 1, draws, unit, Stream.SHUFFLE)[0] * n_bins).astype(np.int64)
        _, first = np.unique(bins, return_index=True)
    return bins[np.sort(first)[:n]]


def circular(values, key):
    """Every unit shifted in time by its own uniform amount, what leaves at the end comes back at the start.

    Examples
    --------
    >>> import numpy as np
    >>> from lft.rng import Key
    >>> from lft.rg.phenomenological.surrogates import circular
    >>> x = np.arange(8).reshape(8, 1)
    >>> np.diff(circular(x, Key(3))[:, 0] % 8).tolist().count(1) >= 6
    True
    """
    rows = _rows(values)
    n = rows.shape[1]
    out = np.empty_like(rows)
    shifts = (key.fill("uniform", 0, 1, len(rows), 0, Stream.SHIFT)[0] * n).astype(np.int64)
    for i, s in enumerate(shifts):
        out[i, s:], out[i, :s] = rows[i, : n - s], rows[i, n - s :]
    return out.T


def independent(values, key, slow_bins=None):
    """Independent 0/1 units with the probability of each unit.

    Parameters
    ----------
    values : array_like, shape (T, N)
        0 or 1.
    key : Key
    slow_bins : int, optional
        The probability is the mean over windows of so many bins instead of the whole: slow changes of each unit's
        rate stay.  The windows of each unit are shifted circularly by a random amount, so nothing is in common.

    Returns
    -------
    ndarray of int8, shape (T, N)

    Raises
    ------
    InputError
        Values other than 0 and 1, or a window that is not in 1..T.

    Examples
    --------
    >>> import numpy as np
    >>> from lft.rng import Key
    >>> from lft.rg.phenomenological.surrogates import independent
    >>> x = np.zeros((4000, 2), int); x[::4, 0] = 1
    >>> y = independent(x, Key(5))
    >>> abs(y[:, 0].mean() - 0.25) < 0.03, int(y[:, 1].sum())
    (np.True_, 0)
    """
    rows = binary_rows(values)
    n = rows.shape[1]
    if slow_bins is not None and not (isinstance(slow_bins, int) and 1 <= slow_bins <= n):
        raise InputError(f"slow_bins = {slow_bins!r}: valid is an integer from 1 to {n}")
    out = np.empty(rows.shape, np.int8)
    shifts = key.fill("uniform", 0, 1, len(rows), 0, Stream.SHIFT)[0]
    for i, row in enumerate(rows):
        p = row.mean() if slow_bins is None else np.roll(_slow(row, slow_bins), int(shifts[i] * n))
        out[i] = _uniforms(key, n, i, Stream.SURROGATE) < p
    return out.T


def _slow(row, window):
    starts = np.arange(0, len(row), window)
    lengths = np.diff(np.append(starts, len(row)))
    return np.repeat(np.add.reduceat(row.astype(float), starts) / lengths, lengths)


def latent(values, key, model=None):
    """Units that see only a few shared Gaussian inputs, fitted to the recording (:mod:`.latent`).

    ``model``: a fit made before (:func:`.latent.fit_latent`), so that many surrogates need one fit.
    """
    from lft.rg.phenomenological.latent import fit_latent

    model = fit_latent(values) if model is None else model
    return model.sample(len(values), key)


NULLS = {"shuffled": shuffled, "circular": circular, "independent": independent, "latent": latent}


def surrogate_maker(name, values):
    """A function ``make(key) -> values`` for one null of a recording, with everything fitted once.

    Returns (make, notes).
    """
    if name not in NULLS:
        raise InputError(f"null {name!r}: valid are {', '.join(NULLS)}")
    if name != "latent":
        return lambda key: NULLS[name](values, key), ()
    from lft.rg.phenomenological.latent import fit_latent

    model = fit_latent(values)
    return lambda key: latent(values, key, model), model.notes


def surrogate_key(seed, null, n):
    """Key of surrogate n of a null: nulls are replicas far apart, so none shares a number with another."""
    return Key(seed, (1 + list(NULLS).index(null)) << 32 | n)


# ---- shared
def _rows(values):
    values = np.asarray(values)
    if values.ndim != 2 or 0 in values.shape or values.dtype.kind not in "biuf":
        raise InputError(f"activity has shape {values.shape} and type {values.dtype}: valid are real numbers "
                         "(bins, units)")
    return np.ascontiguousarray(values.T)


def binary_rows(values):
    """Unit-major int8 copy of a 0/1 raster; InputError for anything else."""
    rows = _rows(values)
    if rows.dtype.kind != "b" and ((rows != 0) & (rows != 1)).any():
        raise InputError("this null needs activity of 0 and 1 (spikes), not counts or real numbers")
    return rows.astype(np.int8, copy=False)


def _uniforms(key, n, unit, stream):
    half = (n + 1) // 2
    return np.concatenate(key.fill("uniform", 0, 1, half, unit, stream))[:n]
