"""Couplings of two units that lack a joint state: which are held at a finite value, which left out, what has no error.

The coupling of two units, in a bin or some bins apart, has a finite maximum only if all four joint states occur: both
fire, the one alone, the other alone, neither.  Every estimator that maximizes treats the others in one way:

* fewer than ``newton.EVIDENCE`` coincidences were expected and none occurred: their lack says nothing, and the coupling
  of such rare units changes next to nothing else: it is fixed at 0;
* any other is *held*: a Gaussian prior of standard deviation ``newton.HELD_SD`` on it alone keeps it finite, on the
  side to which it runs.  Taken as 0 it would go into the fields.

What is held has no error, and neither has what moves along with it by more than its own error.
"""

from __future__ import annotations

import numpy as np

from lft.inference import newton

SHOWN = 5


def judged(together, first, second, n_rows):
    """Which couplings stay, and which of these are held.

    Parameters
    ----------
    together : ndarray (pairs,)
        Number of coincidences.
    first, second : ndarray (pairs,)
        Spikes of the two units.
    n_rows : int
        Bins.

    Returns
    -------
    keep, held : ndarray of bool (pairs,)

    Examples
    --------
    >>> import numpy as np
    >>> together, first, second = np.array([3, 0, 0, 4]), np.array([9, 9, 40, 4]), np.array([8, 9, 30, 9])
    >>> keep, held = judged(together, first, second, 100)  # rare units; 12 coincidences expected; never alone
    >>> keep.tolist(), held.tolist()
    ([True, False, True, True], [False, False, True, True])
    """
    empty = np.array([together, first - together, second - together, n_rows - first - second + together]) <= 0
    held = empty[1:].any(axis=0) | (empty[0] & (first * second >= newton.EVIDENCE * n_rows))
    return ~empty.any(axis=0) | held, held


def carried(information, places, error):
    """Mask of what has no error: the parameters ``places`` that are held, and what would move by more than its error
    if one of these moved by its prior.

    The maximum over the rest, given a held coupling h, moves as ``dtheta_p/dtheta_h = H^-1_ph/H^-1_hh``; the curvature
    at the held value itself says nothing, as the likelihood flattens on the way to infinity.

    Parameters
    ----------
    information : Information
    places : ndarray of int
    error : ndarray (size,)
        Standard errors.

    Returns
    -------
    ndarray of bool (size,)
    """
    size = len(error)
    out = np.zeros(size, bool)
    out[places] = True
    for start in range(0, len(places), 64):
        some = places[start : start + 64]
        unit = np.zeros((size, len(some)))
        unit[some, np.arange(len(some))] = 1.0
        moved = information.solve(unit)
        moved = np.abs(moved) / moved[some, np.arange(len(some))]
        out |= (moved * newton.HELD_SD > error[:, None]).any(axis=1)
    return out


def twins(together, first, second):
    """Mask of the pairs that fire in exactly the same bins."""
    return (together == first) & (first == second) & (first > 0)


def twin_note(pairs):
    """The line that names them, None without any."""
    if not len(pairs):
        return None
    return f"units {some([f'{i} and {j}' for i, j in pairs])} fire in exactly the same bins: the same unit twice?"


def note(names, n_without):
    """The line that names what is held; ``n_without``: all parameters that have no error for it."""
    return (
        f"{len(names)} pairs lack a joint state, so they have no finite maximum: {some(names)}; held by a prior of "
        f"standard deviation {newton.HELD_SD:g} (log-odds); neither they nor what they move along, {n_without} "
        "parameters, have errors (ridge > 0 keeps them)"
    )


def fixed_note(names):
    """The line that names the couplings that are fixed at 0."""
    return (
        f"{len(names)} pairs have no finite maximum: {some(names)}; fixed at {names[0].split('[')[0]} = 0, without "
        "error, and so without error for h, which contains them (ridge > 0 keeps them)"
    )


def silent_note(fires, n_rows):
    """The line that names the units which never or always fire, None without any.

    >>> silent_note(np.array([0, 3, 9]), 9).split(": ")[0]
    '1 never fire and 1 always fire of 3 units in training'
    """
    never, always = ([f"I[{i}]" for i in np.flatnonzero(fires == n)] for n in (0, n_rows))
    if not never + always:
        return None
    counts = [f"{len(n)} {what} fire" for n, what in ((never, "never"), (always, "always")) if n]
    line = f"{' and '.join(counts)} of {len(fires)} units in training: {some(never + always)}; their I is the"
    line += " Krichevsky-Trofimov estimate, without error"
    if always:
        line += f"; couplings to {some(always)}, which always fire, are part of the I of the others"
    return line


def some(names):
    """The first names of a list."""
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
