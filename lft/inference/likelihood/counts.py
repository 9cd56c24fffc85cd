"""The potential of the count above the largest number of spikes that a recording shows.

No bin tells V(K) there: the maximum of the likelihood is minus infinity, and V held constant would leave room for a
second state in which most units fire, since nothing then answers positive couplings of pairs.  So V is continued,

    V(top + 1) - V(top) = min(0, log 1/(2 n) - log r),     r = < sum_{i silent} exp(c_i + sum_j a_ij phi_j) >/(top + 1)
    V(K + 1) - V(K)     = - max_i (sum of the K largest a_ij) - max(0, max c),                            K > top

r, over the n training bins with ``top`` spikes, is the ratio of the weights of both numbers without V: the first that
never occurs gets half a bin, the Krichevsky-Trofimov estimate that silent units get too.  Beyond it no unit is more
likely to fire than it is alone.
"""

from __future__ import annotations

import numpy as np

from lft.inference.pseudo.layout import above_note, counts_notes


def largest(rasters):
    """(number, bins (n, N)) of the largest number of spikes that occurs.

    Parameters
    ----------
    rasters : list of array (T, N)
    """
    top = max(int(r.sum(axis=1, dtype=np.intp).max(initial=0)) for r in rasters)
    return top, np.concatenate([r[r.sum(axis=1, dtype=np.intp) == top] for r in rasters])


def continued(c, a, rasters):
    """V(K) - V(top) for K > top, 0 below; (N + 1,).

    Parameters
    ----------
    c : ndarray (N,)
    a : ndarray (N, N)
        Log-odds of the model whose potential is continued.
    rasters : list of array (T, N)
        The training stretch.

    Examples
    --------
    >>> import numpy as np
    >>> from lft.inference.likelihood.counts import continued
    >>> x = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0]])
    >>> continued(np.full(3, -1.0), 0.5 * (1 - np.eye(3)), [x]).round(3).tolist()  # r = exp(-0.5), two bins
    [0.0, 0.0, -0.886, -1.886]
    """
    n = len(c)
    top, bins = largest(rasters)
    out = np.zeros(n + 1)
    if top == n:
        return out
    weight = np.where(bins > 0, 0.0, np.exp(np.minimum(c + bins @ a, 500.0)))
    first = np.log(0.5 / len(bins)) - np.log(weight.sum(axis=1).mean() / (top + 1))
    best = np.maximum(np.cumsum(-np.sort(-a, axis=1), axis=1).max(axis=0), 0.0)  # of 1, 2, ... others
    steps = np.append(min(first, 0.0), -best[top : n - 1] - max(c.max(), 0.0))
    out[top + 1 :] = np.cumsum(steps)
    return out


def continue_potential(fit, train, test):
    """Let V of a fit by pseudo-likelihood fall above the largest count of training; scores follow, a warning says so.

    Parameters
    ----------
    fit : PseudoFit
        Of the model ``k-pairwise``; V above that count is constant.
    train, test : list of array (T, N)

    Returns
    -------
    PseudoFit
        The same.
    """
    from lft.inference.likelihood.model import from_fit

    old = from_fit(fit)
    more = continued(old.c, old.a, train)
    if not more.any():
        return fit
    top, _ = largest(train)
    fit.V = fit.V + more
    new = from_fit(fit)
    for name, rasters in (("train", train), ("test", test)):
        changed = [r[r.sum(axis=1, dtype=np.intp) >= top] for r in rasters]
        gain = sum(float((new.pseudo_log_likelihood(r) - old.pseudo_log_likelihood(r)).sum()) for r in changed)
        if not sum(map(len, changed)):
            continue
        gain /= sum(r.size for r in rasters)
        fit.score = {**fit.score, name: fit.score[name] + gain}
        if name == "test":
            fit.gain = (fit.gain[0] + gain, fit.gain[1])
    constant = counts_notes([top + 1], top)
    fit.warnings = [line for line in fit.warnings if line not in constant]
    fit.warnings.append(above_note(top, "falls so that no state of more has weight"))
    return fit
