"""Whether the joint distribution of a fit fires as the recording does: a look at a few chains.

The pseudo-likelihood sees one unit given all the others.  On sparse recordings its maximum often has a second state in
which most units fire, which no bin of the recording visits: conditionals are right, the joint distribution is not, and
its likelihood falls far below that of independent units.  Half of the chains start silent, half in that state's reach
(every unit with probability 1/2 if not told otherwise); where they settle is what the model says of a bin.
"""

from __future__ import annotations

import numpy as np

from lft.inference.likelihood.sampling import Chains

WORDS, SWEEPS, FEWEST = 2, 192, 48
OPERATIONS = 3e10
"""Couplings visited at most: about four seconds on one core.  Where ``FEWEST`` sweeps take more nothing is said."""
SIGMA, SHARE = 6.0, 0.3
"""A rate differs beyond so many standard errors and by more than so large a part of the larger one."""


def second_state(model, rate, seed=0, start=0.5):
    """One line if chains of a Gibbs model do not settle at the rates of its recording, else None.

    Parameters
    ----------
    model : GibbsModel
    rate : float
        Spikes per bin of the recording, all units together.
    seed : int
    start : float or array (N,)
        Probability of a spike where half of the chains start.

    Returns
    -------
    str or None

    Examples
    --------
    >>> import numpy as np
    >>> from lft.inference.likelihood import GibbsModel
    >>> from lft.inference.likelihood.joint import second_state
    >>> model = GibbsModel(np.full(20, -3.0), 0.6 * (1 - np.eye(20)))  # 0 and 20 spikes are both likely
    >>> "the recording has 1, which the pseudo-likelihood does not see" in second_state(model, 1.0)
    True
    >>> second_state(GibbsModel(np.full(20, -3.0)), 20 / (1 + np.exp(3.0))) is None
    True
    """
    rows = _rows(model)
    edges = np.count_nonzero(model.a) + 2 * np.count_nonzero(model.lagged) + model.n_units
    sweeps = int(min(OPERATIONS / (64 * WORDS * rows * edges), SWEEPS))
    if sweeps < FEWEST:
        return None
    chains = Chains(model, WORDS, rows, seed=seed, rate=start)
    chains.sweep(sweeps // 2)
    seen = np.zeros(64 * WORDS)
    n = 0
    while chains.t < sweeps:
        chains.sweep(4)
        seen += chains.values().sum(axis=(1, 2)) / rows
        n += 1
    silent, random = seen[0::2] / n, seen[1::2] / n
    off = [_differs(x, rate) for x in (silent, random)]
    if not any(off):
        return None
    where = f"{(random if off[1] else silent).mean():.3g} spikes per bin, the recording has {rate:.3g}"
    what = "is not the recording's: chains settle at" if all(off) else "has a second state: chains stay at"
    return (
        f"the joint distribution of this fit {what} {where}, which the pseudo-likelihood does not see; "
        "take --penalty l2 or --method boltzmann"
    )


def keeps_firing(model, rate, seed=0):
    """Whether chains of a model that start with half of all units active neither come back to the rates of the
    recording nor are on their way: their spikes do not fall any more.

    In space-time such a state grows from any burst that is long enough where it outweighs the recorded one, and shrinks
    from its ends where it does not.

    Parameters
    ----------
    model : GibbsModel
    rate : float
        Spikes per bin of the recording.
    seed : int

    Examples
    --------
    >>> import numpy as np
    >>> from lft.inference.likelihood import GibbsModel
    >>> from lft.inference.likelihood.joint import keeps_firing
    >>> [keeps_firing(GibbsModel([-3.0], b={1: b}), 0.05) for b in (1.0, 6.0)]
    [False, True]
    """
    rows, quarter = _rows(model), SWEEPS // 4
    chains = Chains(model, WORDS, rows, seed=seed)
    seen = np.zeros((2, 64 * WORDS))
    chains.sweep(2 * quarter)
    for part in seen:
        for _ in range(quarter // 4):
            chains.sweep(4)
            part += chains.values().sum(axis=(1, 2)) / (rows * (quarter // 4))
    random = seen[:, 1::2]
    fall = random[0] - random[1]
    is_falling = fall.mean() > 3 * fall.std(ddof=1) / np.sqrt(len(fall))
    return _differs(random[1], rate) and not is_falling


def strayed_bins(operators, model, rate, seed=0):
    """<O> per bin of the chains that fire at least twice as much as recorded after a start with half of all units.

    Parameters
    ----------
    operators : Operators
    model : GibbsModel
    rate : float
        Spikes per bin of the recording.
    seed : int

    Returns
    -------
    ndarray (size,) or None
        None where no chain does.
    """
    rows = _rows(model)
    chains = Chains(model, WORDS, rows, seed=seed)
    chains.sweep(FEWEST)
    x = chains.values()
    away = x[x.sum(axis=(1, 2)) > 2 * rows * rate]
    return operators.values(away).mean(axis=0) / rows if len(away) else None


def _rows(model):
    """Bins of a chain; shorter ones are soon ended from their ends."""
    return 1 if model.kind == "static" else 32 * len(model.lagged) + 64


def _differs(chains, rate):
    mean, error = chains.mean(), chains.std(ddof=1) / np.sqrt(len(chains))
    return bool(abs(mean - rate) > SIGMA * error and abs(mean - rate) > SHARE * max(mean, rate))
