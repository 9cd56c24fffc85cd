"""Time-dependent inputs of a Gibbs model, as features that are 0 or 1.

    z_i^a = ... + c_i + sum_q u_iq x_q(a)          (I_i^a = I_i - sum_q u_iq x_q(a))

The loops of the pseudo-likelihood add weights of active features, so a column of real numbers has no place in them.
But a term of the input takes few values: a response to events one for each bin of its window, a drift one for each of
its steps, a stimulus one for each condition.  Every value is a feature, active in the bins that have it, whose weight
on unit i is ``sum_q u_iq x_q`` at that value: linear in u (:meth:`lft.inference.pseudo.layout.Layout.matrix`).
Terms have features of their own and add up.  Rejected: columns of real numbers beside the lists, which need other loops
for value, product and second moments; features of the values of all terms together, whose number is a product.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import numpy as np

from lft.errors import InputError
from lft.inference.inputs import InputDesign, Smooth

MAX_VALUES = 512
STEPS = 16
"""Steps per function of a drift: a cubic B-spline differs from its steps by up to 2.5 % of its height (9 % of those
that end the stretch)."""
CHUNK = 65536


@dataclass(frozen=True, eq=False)
class Drive:
    """Which value every bin has, term by term.

    Attributes
    ----------
    names : tuple of str
        Of the columns x_q.
    values : tuple of (ndarray of int32 (n_rows,), int)
        For each term the place of the value in every row (-1: all its columns are 0), and their number.
    table : ndarray (n_values, n_inputs)
        x_q at every value; those of a term follow each other.
    """

    names: tuple
    values: tuple
    table: np.ndarray

    @property
    def n_inputs(self):
        return len(self.names)

    def digest(self):
        """A name of the columns, for a search that goes on with the same ones."""
        total = hashlib.sha256(self.table.tobytes())
        for value, _ in self.values:
            total.update(value.tobytes())
        return total.hexdigest()

    def columns(self, start, stop):
        """x_q(a) of the rows start <= a < stop, (stop - start, n_inputs)."""
        out, first = np.zeros((stop - start, self.n_inputs)), 0
        for value, n_values in self.values:
            padded = np.concatenate([self.table[first : first + n_values], np.zeros((1, self.n_inputs))])
            out += padded[value[start:stop]]  # -1 is the last row
            first += n_values
        return out


def drive_of(design, lengths, n_train):
    """The :class:`Drive` of an :class:`lft.inference.inputs.InputDesign` on trials of these lengths.

    Parameters
    ----------
    design : InputDesign or None
    lengths : sequence of int
        Bins of the trials.
    n_train : int
        Rows that are fitted, from the first.

    Returns
    -------
    Drive or None

    Raises
    ------
    InputError
        More than 512 values in all.

    Examples
    --------
    >>> from lft.inference.inputs import EventLocked, InputDesign
    >>> drive = drive_of(InputDesign([EventLocked([[2]], 0, 3, 3)]), [6], 6)
    >>> drive.values[0][0].tolist(), drive.table.tolist()
    ([-1, -1, 2, 1, 0, -1], [[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    """
    if design is not None and not isinstance(design, InputDesign):
        raise InputError(f"inputs = {design!r}: valid is an InputDesign (lft.inference.inputs)")
    if design is None or not design.terms:
        return None
    n_rows = int(sum(lengths))
    terms = [_stepped(term, max(lengths) if getattr(term, "per_trial", False) else n_train) for term in design.terms]
    bound = InputDesign(terms).bind(lengths, n_train)  # names twice are refused here
    values, tables, total = [], [], 0
    for term in terms:
        names, columns = term.bind(list(lengths), int(n_train))
        place, table = _distinct(columns, n_rows, len(names))
        total += len(table)
        if total > MAX_VALUES:
            raise InputError(
                f"input {term.name}: {total} different values of the inputs; valid for Gibbs models are at most "
                f"{MAX_VALUES}: a shorter window, wider bins, fewer conditions, or --model kinetic or glm"
            )
        values.append((place, len(table)))
        tables.append(table)
    whole, row, column = np.zeros((total, bound.size)), 0, 0
    for table in tables:
        whole[row : row + len(table), column : column + table.shape[1]] = table
        row, column = row + len(table), column + table.shape[1]
    return Drive(tuple(bound.names), tuple(values), whole)


def _stepped(term, n_bins):
    """A drift on steps, where it has more bins than those."""
    if isinstance(term, Smooth) and n_bins > STEPS * term.size:
        return replace(term, steps=STEPS * term.size)
    return term


def _distinct(columns, n_rows, n_columns):
    """(place of every row's value or -1, values that are not all 0)."""
    place, table = np.empty(n_rows, np.int32), np.zeros((0, n_columns))
    for start in range(0, n_rows, CHUNK):
        stop = min(start + CHUNK, n_rows)
        both = np.concatenate([table, columns(start, stop)])
        found, first, inverse = np.unique(both, axis=0, return_index=True, return_inverse=True)
        if len(found) > 2 * MAX_VALUES:
            return place, found  # refused by the caller
        inverse = inverse.reshape(-1)
        # values keep their places: those of earlier chunks come first
        order = np.argsort(first, kind="stable")
        rank = np.empty(len(found), np.int64)
        rank[order] = np.arange(len(found))
        if start == 0 or len(found) > len(table):
            table = found[order]
        place[start:stop] = rank[inverse[len(both) - (stop - start) :]]
    order = np.lexsort(table.T[::-1])
    back = np.empty(len(table), np.int64)
    back[order] = np.arange(len(table))
    table, place = table[order], back[place].astype(np.int32)
    is_zero = ~table.any(axis=1)
    if is_zero.any():
        zero = int(np.flatnonzero(is_zero)[0])
        place = np.where(place == zero, -1, np.where(place > zero, place - 1, place)).astype(np.int32)
        table = table[~is_zero]
    return place, table
