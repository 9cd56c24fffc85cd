"""The design that all targets of a causal fit share, and the sums over it for eight targets at a time.

The linear predictor of target i is

    eta_i(a) = c_i + sum_q u_iq x_q(a) + sum_j sum_m w_ijm sum_k b_m(k) n_j(a-k),    k = 1..K,

with n_j the spikes of source j, ``b`` the basis of the couplings (for j = i that of the own history) and ``x`` the
inputs.  Parameters of a target: ``c, u_0, u_1, ..., then w`` source by source.  Rows whose past leaves their trial are
not fitted.
"""

from __future__ import annotations

import itertools

import numpy as np

from lft import links
from lft._kernels import lagged
from lft.inference.newton import SingularInformation

CHUNK = 4096
LANES = lagged.LANES
CACHE_CELLS = 2**24
FAR = 800.0  # a predictor at which the probability of the other outcome is 0 to rounding


class Design:
    """Spikes, bases, inputs and link of a fit.

    Parameters
    ----------
    table : SpikeTable
    cross, own : Basis
        Of the couplings and of a unit's own history; own = None: no such terms.
    inputs : BoundInputs
    link : {"logit", "cloglog", "poisson"}
    sources : sequence of int
        Units whose spikes couple to others.
    fits : ndarray of uint8 (T,)
        Rows that count; all of them must have their past in their trial.
    """

    def __init__(self, table, cross, own, inputs, link, sources, fits):
        self.table, self.inputs, self.link, self.fits = table, inputs, link, fits
        self.cross, self.own = cross.matrix, None if own is None else own.matrix
        self.n_lags = len(self.cross)
        self.sources = np.asarray(sources, np.int64)
        self.place = np.full(table.n_units, -1)
        self.place[self.sources] = np.arange(len(self.sources))
        self.n_cross, self.n_own = self.cross.shape[1], 0 if own is None else self.own.shape[1]
        self.width = max(self.n_cross, self.n_own)
        self.n_dense = 1 + inputs.size
        self.size = self.n_dense + len(self.sources) * self.width  # padded: some places do not exist
        self.is_identity = np.array_equal(self.cross, np.eye(self.n_lags))
        self.same_own = self.own is not None and np.array_equal(self.cross, self.own)
        self.is_binary = table.is_binary()
        fitted = np.flatnonzero(fits)
        self.first, self.last = (int(fitted[0]), int(fitted[-1]) + 1) if len(fitted) else (0, 0)
        self.n_fitted = len(fitted)
        self.repeats = None
        self._dense, self._buffers, self._visits = None, [], [0]
        if 0 < inputs.size * table.n_bins <= CACHE_CELLS:
            self._dense = inputs.columns(0, table.n_bins)

    def restricted(self, fits, repeats=None):
        """The same design with other rows; ``repeats`` (T,): how often each counts in sums over all rows."""
        new = object.__new__(Design)
        new.__dict__.update(self.__dict__)
        fitted = np.flatnonzero(fits)
        new.fits, new.n_fitted, new.repeats = fits, len(fitted), repeats
        new.first, new.last = (int(fitted[0]), int(fitted[-1]) + 1) if len(fitted) else (0, 0)
        return new

    def buffers(self):
        """Weights and residuals (T, lanes) of the batch at work."""
        if not self._buffers:
            self._buffers += [np.zeros((self.table.n_bins, LANES)) for _ in range(2)]
        return self._buffers

    def visit(self):
        """A number for what the work arrays hold now."""
        return self._visits[0]

    def is_last(self, visit):
        """Whether they still hold it."""
        return visit == self._visits[0]

    def dense(self, start, stop):
        """(rows, 1 + inputs): the constant and the inputs."""
        out = np.ones((stop - start, self.n_dense))
        if self.n_dense > 1:
            out[:, 1:] = self.inputs.columns(start, stop) if self._dense is None else self._dense[start:stop]
        return out

    def places(self, target):
        """Padded places of the parameters that a target has."""
        used = np.zeros((len(self.sources), self.width), bool)
        used[:, : self.n_cross] = True
        if self.place[target] >= 0:
            used[self.place[target]] = np.arange(self.width) < self.n_own
        return np.concatenate([np.arange(self.n_dense), self.n_dense + np.flatnonzero(used.ravel())])

    def chunks(self, start=None, stop=None):
        """Pieces of bounded length of the rows that are fitted."""
        start = self.first if start is None else max(start, self.first)
        stop = self.last if stop is None else min(stop, self.last)
        return [(a, min(a + CHUNK, stop)) for a in range(start, stop, CHUNK)]


class Batch:
    """Up to eight targets of a design.

    Batches of one design share their work arrays: :meth:`hessian` and :meth:`scores` belong right after
    :meth:`evaluate`.
    ``pinned``: per lane arrays (rows, sign) of rows where the outcome is certain (eta = +-800), as behind a refractory
    time; they add nothing to value and derivatives.
    """

    def __init__(self, design, targets, pinned=None):
        self.design, self.targets = design, [int(i) for i in targets]
        self.n_lanes = len(self.targets)
        self.times = [design.table.times(i) for i in self.targets]
        self.spikes = _in_order([times[design.fits[times] > 0] for times in self.times])
        self.pinned = pinned or {}
        self.weights, self.residuals = design.buffers()

    def filters(self, theta):
        """Couplings on the lag grid (K, N, lanes) from padded parameters (size, lanes)."""
        d = self.design
        w = theta[d.n_dense :].reshape(len(d.sources), d.width, LANES)
        table = np.zeros((d.n_lags, d.table.n_units, LANES))
        table[:, d.sources] = (
            w.swapaxes(0, 1)
            if d.is_identity and d.width == d.n_lags
            else np.einsum("km,sml->ksl", d.cross, w[:, : d.n_cross])
        )
        if not d.same_own:
            for lane, i in enumerate(self.targets):
                if d.place[i] >= 0:
                    table[:, i, lane] = 0.0 if d.own is None else d.own @ w[d.place[i], : d.n_own, lane]
        return table

    def contract(self, sums):
        """Derivatives with respect to padded coupling parameters, (sources x width, lanes), from (K, N, lanes)."""
        d = self.design
        out = np.zeros((len(d.sources), d.width, LANES))
        part = sums[:, d.sources]
        out[:, : d.n_cross] = part.swapaxes(0, 1) if d.is_identity else np.einsum("km,ksl->sml", d.cross, part)
        if d.own is not None and not d.same_own:
            for lane, i in enumerate(self.targets):
                if d.place[i] >= 0:
                    out[d.place[i], :, lane] = 0.0
                    out[d.place[i], : d.n_own, lane] = d.own.T @ sums[:, i, lane]
        return out.reshape(-1, LANES)

    def counts(self, start, stop):
        """(rows, lanes) spikes of the targets."""
        y = np.zeros((stop - start, LANES))
        for lane, times in enumerate(self.times):
            low, high = np.searchsorted(times, (start, stop))
            y[:, lane] = np.bincount(times[low:high] - start, minlength=stop - start)
        return y

    def eta(self, theta, table, start, stop):
        """(rows, lanes) linear predictor; rows that are not fitted lack their couplings."""
        d = self.design
        out = np.repeat(theta[:1], stop - start, axis=0)
        if d.n_dense > 1:
            out = d.dense(start, stop) @ theta[: d.n_dense]
        lagged.predict(d.table.ptr, d.table.unit, d.fits, start, stop, table, out)
        for lane, (rows, sign) in self.pinned.items():
            low, high = np.searchsorted(rows, (start, stop))
            out[rows[low:high] - start, lane] = FAR * sign[low:high]
        return out

    def evaluate(self, theta, start=None, stop=None):
        """(value, gradient) per lane of the rows; keeps weights and residuals for :meth:`hessian` and
        :meth:`scores`.  Rows count as often as they are repeated where all are summed, once in a stretch."""
        d = self.design
        repeats = d.repeats if start is None else None
        d._visits[0] += 1
        table = self.filters(theta)
        value, g_dense, sums = np.zeros(LANES), np.zeros((d.n_dense, LANES)), np.zeros_like(table)
        for a, b in d.chunks(start, stop):
            eta, r, w = self.eta(theta, table, a, b), self.residuals[a:b], self.weights[a:b]
            if d.link == "logit" and repeats is None:
                low, high = np.searchsorted(self.spikes[0], (a, b))
                lagged.logit(a, b, d.fits, eta, *(part[low:high] for part in self.spikes), r, w, value)
            else:
                value += self._terms(eta, a, b, repeats, r, w)
            g_dense += d.dense(a, b).T @ r if d.n_dense > 1 else r.sum(axis=0)
            lagged.gather(d.table.ptr, d.table.unit, d.fits, a, b, r, sums)
        return value, np.concatenate([g_dense, self.contract(sums)])

    def _terms(self, eta, start, stop, repeats, r, w):
        """Value of a piece; fills r and w."""
        d, fitted = self.design, self.design.fits[start:stop].astype(bool)
        y = self.counts(start, stop)[fitted]
        r[...], w[...] = 0.0, 0.0
        value, r[fitted], w[fitted] = links.terms(d.link, eta[fitted], y)
        if repeats is not None:
            times = repeats[start:stop, None]
            r *= times
            w *= times
            return (times[fitted] * links.log_probability(d.link, eta[fitted], y)).sum(axis=0)
        return value - _log_factorials(y) if d.link == "poisson" else value

    def log_probability(self, theta, table, alone, start, stop):
        """Log-probability per lane of the rows, that with the linear predictor ``alone`` (lanes,), and their number; it
        takes the work arrays."""
        d = self.design
        d._visits[0] += 1
        rows, eta = d.fits[start:stop].astype(bool), self.eta(theta, table, start, stop)
        n = int(rows.sum())
        if d.link == "logit":
            low, high = np.searchsorted(self.spikes[0], (start, stop))
            spikes, own = [part[low:high] for part in self.spikes], np.zeros(LANES)
            lagged.logit(start, stop, d.fits, eta, *spikes, self.residuals[start:stop], self.weights[start:stop], own)
            return own, np.bincount(spikes[1], minlength=LANES) * alone - n * np.logaddexp(0, alone), n
        y = self.counts(start, stop)[rows]
        own = links.log_probability(d.link, eta[rows], y).sum(axis=0)
        return own, links.log_probability(d.link, np.broadcast_to(alone, y.shape), y).sum(axis=0), n

    def scores(self, edges):
        """(blocks, size, lanes): gradients between the edges (bins), from the residuals of the last evaluation."""
        return np.stack([self._weighted(self.residuals, a, b) for a, b in itertools.pairwise(edges)])

    def _weighted(self, rows, start, stop):
        d = self.design
        sums, dense = np.zeros((d.n_lags, d.table.n_units, LANES)), np.zeros((d.n_dense, LANES))
        for a, b in d.chunks(start, stop):
            r = rows[a:b]
            dense += d.dense(a, b).T @ r if d.n_dense > 1 else r.sum(axis=0)
            lagged.gather(d.table.ptr, d.table.unit, d.fits, a, b, r, sums)
        return np.concatenate([dense, self.contract(sums)])

    def hessian(self):
        """(lanes, size, size) information at the last evaluation; only the upper triangles are filled."""
        d = self.design
        H = np.zeros((self.n_lanes, d.size, d.size))
        self._dense_rows(H)
        if len(d.sources) and d.width:
            blocks = H[:, d.n_dense :, d.n_dense :].reshape(
                self.n_lanes, len(d.sources), d.width, len(d.sources), d.width
            )
            buffer = np.empty((d.n_lags, d.n_lags, d.table.n_units, LANES))
            for s, j in enumerate(d.sources):
                lagged.pairs(d.table.ptr, d.table.unit, d.fits, j, d.table.times(j), self.weights, buffer)
                self._source_rows(blocks, s, buffer)
        return H

    def dense_sums(self):
        """Second derivatives that involve the constant and the inputs, at the last evaluation: among themselves
        (lanes, n_dense, n_dense), and with the couplings (n_dense, sources x width, lanes)."""
        d = self.design
        block = np.zeros((self.n_lanes, d.n_dense, d.n_dense))
        cross = np.zeros((d.n_dense, d.n_lags, d.table.n_units, LANES))
        for a, b in d.chunks():
            x, w = d.dense(a, b), self.weights[a:b]
            for lane in range(self.n_lanes):
                block[lane] += (x * w[:, lane : lane + 1]).T @ x
            for q in range(d.n_dense):
                r = w if q == 0 else w * x[:, q : q + 1]
                lagged.gather(d.table.ptr, d.table.unit, d.fits, a, b, r, cross[q])
        return block, np.stack([self.contract(part) for part in cross])

    def _dense_rows(self, H):
        d = self.design
        H[:, : d.n_dense, : d.n_dense], cross = self.dense_sums()
        H[:, : d.n_dense, d.n_dense :] = cross.transpose(2, 0, 1)[: self.n_lanes]

    def _source_rows(self, blocks, s, sums):
        """Blocks of the source s with the sources from s on; ``sums`` (lag, lag', unit, lane)."""
        d = self.design
        tail = d.sources[s:]
        part = sums[:, :, tail[0] :] if len(tail) == d.table.n_units - tail[0] else sums[:, :, tail]
        if d.is_identity:
            both = half = part.swapaxes(1, 2)
        else:
            half = np.einsum("kqnl,qm->knml", part, d.cross, optimize=True)
            both = np.einsum("knml,kp->pnml", half, d.cross, optimize=True)
        blocks[:, s, : d.n_cross, s:, : d.n_cross] = both.transpose(3, 0, 1, 2)[: self.n_lanes]
        if d.own is None or d.same_own:
            return
        for lane, i in enumerate(self.targets):
            p = d.place[i]
            if p < s:
                continue
            if p == s:
                blocks[lane, s, :, s:, :] = 0.0
                own = np.einsum("knm,kp->pnm", half[:, 1:, :, lane], d.own)
                blocks[lane, s, : d.n_own, s + 1 :, : d.n_cross] = own
            blocks[lane, s, :, p, :] = 0.0
            left = d.own if p == s else d.cross
            blocks[lane, s, : left.shape[1], p, : d.n_own] = left.T @ sums[:, :, i, lane] @ d.own


def _in_order(times):
    """(rows, lanes) of the spikes of all lanes, ascending in the row."""
    rows = np.concatenate(times)
    lanes = np.repeat(np.arange(len(times), dtype=np.uint8), [len(t) for t in times])
    order = np.argsort(rows, kind="stable")
    return rows[order], lanes[order]


def _log_factorials(y):
    if not y.size or y.max() < 2:
        return 0.0
    from scipy.special import gammaln

    return gammaln(y + 1).sum(axis=0)


class TargetInformation:
    """Information of one target: Cholesky factor of the free part of its matrix.

    Parameters
    ----------
    matrix : ndarray (size, size)
        Upper triangle filled.
    keep : ndarray of int
        Places of the free parameters.
    extra : ndarray (len(keep),) or None
        Added to the diagonal.
    """

    def __init__(self, matrix, keep, extra=None):
        from scipy.linalg.lapack import dpotrf

        part = matrix[np.ix_(keep, keep)] if len(keep) < len(matrix) else matrix.copy()
        self._diagonal = part.diagonal().copy()
        if extra is not None:
            part[np.diag_indices(len(part))] += extra
        self.factor, info = dpotrf(part.T, lower=1, clean=0, overwrite_a=1)
        if info:
            raise SingularInformation(
                "the information matrix of a unit is singular: some couplings cannot be told apart on this recording; "
                "select fewer units, fewer lags or a smaller basis, or give ridge > 0"
            )

    def solve(self, vector):
        """H^-1 vector; a second axis holds several right-hand sides."""
        from scipy.linalg.lapack import dpotrs

        return dpotrs(self.factor, vector, lower=1)[0].reshape(np.shape(vector))

    def diagonal(self):
        """Diagonal of H, without what was added."""
        return self._diagonal

    def inverse(self):
        """H^-1 as a full matrix."""
        from scipy.linalg.lapack import dpotri

        out, _ = dpotri(self.factor, lower=1)
        low = np.tril(out)
        return low + np.tril(out, -1).T

    def inverse_diagonal(self):
        """Diagonal of H^-1."""
        from scipy.linalg.lapack import dpotri

        return dpotri(self.factor, lower=1)[0].diagonal().copy()
