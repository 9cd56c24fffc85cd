"""Information (minus the Hessian) of a pseudo-likelihood: rows in memory where they fit, else passes over the data.

Every target unit i adds the second moments of its features, H_i = sum_a p (1 - p) x x^T, in the parameters of its own
conditional; shared parameters join the rows:

    H = sum_i E_i H_i E_i^T

(E_i puts the parameters of row i in their places).  Pair parameters stand in two rows, so the equations are those of
overlapping subdomains, and conjugate gradients preconditioned by the weighted sum of the inverses of the rows need 5 to
15 steps (the Neumann-Neumann method, a standard result).  Parameters in all rows (b, V) are eliminated first.

Where the rows do not fit, products with H are passes over the data, and the preconditioner takes p (1 - p) as
independent of the pattern: with W_i = sum_a p (1 - p) and S the covariance of the units per bin, the equations for the
pair matrix D become

    W D S + S D W = G

which the eigenvectors of W^(-1/2) S W^(-1/2) solve (N^3), in variables centered at the rates; the same operator serves
the couplings of every lag.
"""

from __future__ import annotations

import numpy as np

from lft._kernels import pseudo as kernel
from lft.cached import aligned
from lft.errors import DivergenceError, InputError
from lft.inference.newton import DenseInformation, SingularInformation
from lft.inference.pseudo.patterns import LANES

ROWS_BYTES = 600 * 2**20
DENSE_SIZE = 1300
MAX_DENSE = 9000
PASS_TOLERANCE = 0.03
ROWS_TOLERANCE = 1e-8
STEP_TOLERANCE = 1e-2


def information(objective, theta, extra=None):
    """H + diag(extra) at theta."""
    if rows_bytes(objective.layout) <= ROWS_BYTES:
        return RowInformation(RowBlocks.of(objective, theta), extra)
    return PassInformation(objective, theta, extra)


def rows_bytes(layout):
    """Memory of the second moments of all rows, and of their inverses."""
    return 16 * len(layout.units) * layout.widest**2


# ---- rows in memory
class RowBlocks:
    """H_i of every target in the parameters of its own conditional.

    Attributes
    ----------
    place : ndarray (targets, width)
        Parameters of each row; ``size`` where a row has fewer than ``width``.
    block : ndarray (targets, width, width)
        The identity in places that do not exist.
    """

    def __init__(self, layout, place, block):
        from scipy.sparse import csr_array

        self.layout, self.size, self.place, self.block = layout, layout.size, place, block
        n = place.size
        scatter = csr_array((np.ones(n), (place.ravel(), np.arange(n))), shape=(self.size + 1, n))
        self.scatter = scatter[:-1]
        self.number = np.bincount(place.ravel(), minlength=self.size + 1)[:-1]

    @classmethod
    def of(cls, objective, theta):
        """Computed from the data, in double precision."""
        rows = [row for tile in objective.tiles for row in tile_rows(objective, theta, tile)]
        if objective.comm is not None and objective.comm.Get_size() > 1:
            rows = [row for part in objective.comm.allgather(rows) for row in part]
        size, width = objective.size, max(len(places) for _, places, _ in rows)
        place = np.full((len(rows), width), size)
        block = np.zeros((len(rows), width, width))
        block[:, np.arange(width), np.arange(width)] = 1.0
        for n, (_, places, matrix) in enumerate(rows):
            place[n, : len(places)] = places
            block[n, : len(places), : len(places)] = matrix
        return cls(objective.layout, place, block)

    def dense(self, extra=None):
        matrix = np.zeros((self.size + 1, self.size + 1))
        for places, block in zip(self.place, self.block, strict=True):
            matrix[np.ix_(places, places)] += block
        matrix = matrix[:-1, :-1]
        if extra is not None:
            matrix[np.diag_indices(self.size)] += extra
        return matrix

    def product(self, vectors):
        """H times (size, any)."""
        padded = np.concatenate([vectors, np.zeros((1, vectors.shape[1]))])
        return self.scatter @ (self.block @ padded[self.place]).reshape(self.place.size, -1)

    def diagonal(self):
        return self.scatter @ np.diagonal(self.block, axis1=1, axis2=2).ravel()


def tile_rows(objective, theta, tile, dtype=np.float64):
    """(unit, parameters, H_i) of the targets of one tile."""
    layout, patterns = objective.layout, objective.patterns
    weights, n, n_own = objective.weights(theta), layout.n_shared, layout.n_own
    at = [part[tile - objective.tiles.start] for part in objective.packed(weights, dtype)]
    pairs = np.zeros(((n + 1) * (n + 2) // 2, LANES), dtype)
    cross, square = np.zeros((max(n_own, 1), n + 1, LANES), dtype), np.zeros((max(n_own, 1),) * 2 + (LANES,), dtype)
    pieces = objective.pieces([0, objective.n_rows])
    patterns.rows.blocks(tile, pieces, *at, pairs, cross, square, *_room(objective, dtype))
    lower = np.tril_indices(n + 1)
    order = np.concatenate([np.arange(n), [n + n_own], n + np.arange(n_own)])  # the constant last, as in the layout
    for i in range(tile * LANES, min((tile + 1) * LANES, layout.n_units)):
        if not objective.is_target[i]:
            continue
        lane = i % LANES
        full = np.empty((n + 1 + n_own,) * 2)
        full[lower] = pairs[:, lane]
        full.T[lower] = pairs[:, lane]
        full[n + 1 :, : n + 1] = cross[:n_own, :, lane]
        full[: n + 1, n + 1 :] = cross[:n_own, :, lane].T
        full[n + 1 :, n + 1 :] = square[:n_own, :n_own, lane]
        yield i, *_reduced(objective.matrix, i, full, order)


def _room(objective, dtype):
    """Room of the loop of second moments for as many rows as bring each pair of features some 16 times."""
    lists = objective.patterns
    density = max(len(lists.feature) / lists.n_rows / max(lists.n_shared, 1), 1e-6)
    n_rows = int(min(max(16 / density**2, 512), 32768, max(b - a for a, b in objective.ranges)))
    n_entries = int(max(1.5 * n_rows * density, 1) * max(lists.n_shared, 1))
    return (
        aligned((n_rows, LANES), dtype),
        np.empty(max(lists.n_shared, 1), np.int64),
        np.zeros((2, n_entries + kernel.BEYOND), np.int32),
    )


def _reduced(matrix, i, full, order):
    """Second moments of features -> of parameters; ``order`` holds the layout's feature behind each row of ``full``."""
    m = len(full)
    first, last = matrix.indptr[i * m], matrix.indptr[(i + 1) * m]
    parameter, value = matrix.indices[first:last], matrix.data[first:last]
    feature = np.repeat(np.arange(m), np.diff(matrix.indptr[i * m : (i + 1) * m + 1]))
    back = np.empty(m, int)
    back[order] = np.arange(m)
    places = np.unique(parameter)
    if len(places) == len(parameter) and np.all(value == 1):
        sort = np.argsort(parameter)
        rows = back[feature[sort]]
        return places, full[np.ix_(rows, rows)]
    project = np.zeros((m, len(places)))
    project[back[feature], np.searchsorted(places, parameter)] = value
    return places, project.T @ full @ project


class RowInformation:
    """H + diag(extra) from rows in memory; small problems are factored, large ones solved by conjugate gradients."""

    def __init__(self, rows, extra=None):
        self.rows, self.extra, self.size = rows, extra, rows.size
        self._dense = self.inverse = None
        if self.size <= DENSE_SIZE:
            self.factored()

    def factored(self):
        if self._dense is None:
            self._dense = DenseInformation(self.rows.dense(self.extra))
        return self._dense

    def restricted(self, places):
        """That of some parameters, the others held still: a factored matrix."""
        at = np.full(self.size + 1, -1)
        at[places] = np.arange(len(places))
        matrix = np.zeros((len(places),) * 2)
        for row, block in zip(self.rows.place, self.rows.block, strict=True):
            mine = np.flatnonzero(at[row] >= 0)
            to = at[row[mine]]
            matrix[np.ix_(to, to)] += block[np.ix_(mine, mine)]
        return DenseInformation(matrix, None if self.extra is None else self.extra[places])

    def diagonal(self):
        own = self.rows.diagonal()
        return own if self.extra is None else own + self.extra

    def inverse_diagonal(self):
        """Diagonal of H^-1; by a factor of the whole matrix, up to 9000 parameters."""
        if self.size > MAX_DENSE:
            raise InputError(f"the diagonal of the inverse of {self.size} x {self.size}: valid is up to {MAX_DENSE}")
        return self.factored().inverse_diagonal()

    def product(self, vector):
        """(H + diag(extra)) vector."""
        columns = vector.reshape(self.size, -1)
        out = self.rows.product(columns)
        if self.extra is not None:
            out = out + self.extra[:, None] * columns
        return out.reshape(vector.shape)

    def solve(self, vector, tolerance=ROWS_TOLERANCE):
        """H^-1 vector; a second axis holds several right-hand sides."""
        if self._dense is not None:
            return self._dense.solve(vector)
        columns = vector.reshape(self.size, -1)
        y = self.rows.layout.border
        if not len(y):
            return conjugate_gradients(self.product, self._precondition, columns, tolerance).reshape(vector.shape)
        return solve_bordered(self.product, self._precondition, columns, y, tolerance).reshape(vector.shape)

    def step(self, vector):
        """H^-1 vector as well as a step of a search needs it, whose gradients are exact."""
        return self.solve(vector, STEP_TOLERANCE)

    def estimate(self, vector):
        """Roughly H^-1 vector, for what needs no more than its size: the preconditioner where H is not factored."""
        if self._dense is not None:
            return self._dense.solve(vector)
        return self._precondition(vector.reshape(self.size, -1)).reshape(vector.shape)

    def _prepare(self):
        """Inverses of the rows without the parameters that stand in all of them."""
        rows = self.rows
        block = rows.block.copy()
        number = np.append(rows.number, 1)
        if self.extra is not None:
            share = np.append(self.extra, 0.0) / number
            width = np.arange(block.shape[1])
            block[:, width, width] += share[rows.place]
        border = np.isin(rows.place, rows.layout.border)
        block[border[:, :, None] | border[:, None, :]] = 0.0
        t, w = np.nonzero(border)
        block[t, w, w] = 1.0
        try:
            np.linalg.cholesky(block)
            self.inverse = np.linalg.inv(block)
        except np.linalg.LinAlgError:
            raise SingularInformation(
                "the information matrix of the fit is singular: some couplings cannot be told apart on this "
                "recording; select fewer units, wider bins, or give ridge > 0"
            ) from None
        self.weight = 1.0 / np.maximum(number, 1)

    def _precondition(self, r):
        if self.inverse is None:
            self._prepare()
        padded = np.concatenate([r, np.zeros((1, r.shape[1]))]) * self.weight[:, None]
        out = self.rows.scatter @ (self.inverse @ padded[self.rows.place]).reshape(self.rows.place.size, -1)
        return out * self.weight[:-1, None]


def solve_bordered(product, precondition, columns, y, tolerance):
    """H^-1 columns where the parameters ``y`` stand in all rows: they are eliminated by their Schur complement."""
    size = len(columns)
    x = np.setdiff1d(np.arange(size), y)
    unit = np.zeros((size, len(y)))
    unit[y, np.arange(len(y))] = 1.0
    of_y = product(unit)

    def inner(v):
        full = np.zeros((size, v.shape[1]))
        full[x] = v
        return product(full)[x]

    def condition(r):
        full = np.zeros((size, r.shape[1]))
        full[x] = r
        return precondition(full)[x]

    both = conjugate_gradients(inner, condition, np.concatenate([of_y[x], columns[x]], axis=1), tolerance)
    of_border, of_columns = both[:, : len(y)], both[:, len(y) :]
    schur = of_y[y] - of_y[x].T @ of_border
    low = np.linalg.solve(schur, columns[y] - of_y[x].T @ of_columns)
    out = np.empty_like(columns)
    out[y], out[x] = low, of_columns - of_border @ low
    return out


def conjugate_gradients(product, precondition, columns, tolerance, max_steps=400):
    """H^-1 columns for positive definite H, all right-hand sides at once, to a relative residual in the metric of the
    preconditioner."""
    x, r = np.zeros_like(columns), columns.copy()
    z = precondition(r)
    d, rz = z.copy(), (r * z).sum(axis=0)
    goal = tolerance**2 * rz
    for _ in range(max_steps):
        if np.all(rz <= goal):
            return x
        hd = product(d)
        curvature = (d * hd).sum(axis=0)
        live = rz > goal
        if np.any(live & ~(curvature > 0)):
            raise SingularInformation(
                "the information matrix of the fit is singular: some couplings cannot be told apart on this "
                "recording; select fewer units, wider bins, or give ridge > 0"
            )
        step = np.where(live, rz / np.where(live, curvature, 1.0), 0.0)
        x += step * d
        r -= step * hd
        z = precondition(r)
        new = (r * z).sum(axis=0)
        d = z + np.where(live, new / np.where(live, rz, 1.0), 0.0) * d
        rz = np.where(live, new, rz)
    raise DivergenceError(f"conjugate gradients: not converged after {max_steps} products with the information matrix")


# ---- passes over the data
class PassInformation:
    """H + diag(extra) by passes over the data, in single precision: steps of a search, not errors.

    Solutions are good to a relative residual of 0.03, which a Newton search whose gradients are exact corrects.  The
    diagonal leaves out products of two features of one parameter (b, V, C_ii).
    """

    def __init__(self, objective, theta, extra=None, tolerance=PASS_TOLERANCE):
        self.objective, self.extra, self.size, self.tolerance = objective, extra, objective.size, tolerance
        layout, self.matrix, self.theta = objective.layout, objective.matrix, theta
        data, units = objective.data, layout.units
        rate = data[units, -1] / objective.n_rows
        self.mean = np.zeros((layout.n_units, layout.n_features))
        rates = data[:, -1] / objective.n_rows
        for s in range(len(layout.shifts)):
            self.mean[:, s * layout.n_units : (s + 1) * layout.n_units] = rates
        self.total = objective.at(theta).variance[units]
        self.driven_total = self._driven(objective)
        covariance = data[np.ix_(units, units)] / objective.n_rows - np.outer(rate, rate)
        root = 1 / np.sqrt(self.total)
        smooth = 0.0 if extra is None else extra[: layout.first[3]].mean() / 2 if layout.first[3] else 0.0
        scaled = root[:, None] * covariance * root + np.diag(smooth / self.total**2)
        self.value, vectors = np.linalg.eigh(scaled)
        self.value = np.maximum(self.value, 1e-6 * self.value.max())
        self.vectors, self.scaled = vectors, root[:, None] * vectors  # W^(-1/2) U
        self.inverse_place = np.full(layout.n_units, -1)
        self.inverse_place[units] = np.arange(len(units))

    def diagonal(self):
        one = np.zeros((self.objective.layout.n_units, self.objective.layout.n_features))
        one[:, -1] = 1.0
        squares = self.matrix.multiply(self.matrix).T.tocsr()
        own = squares @ self.objective.product(self.theta, one).ravel()
        return own if self.extra is None else own + self.extra

    def inverse_diagonal(self):
        raise InputError(
            f"the diagonal of the inverse information of {self.size} parameters would need "
            f"{8e-9 * self.size**2:.0f} GB: valid is a fit whose rows fit in memory"
        )

    def product(self, vector):
        """(H + diag(extra)) vector, one pass."""
        columns = vector.reshape(self.size, -1)
        out = np.empty_like(columns)
        n = self.objective.layout.n_units
        for c in range(columns.shape[1]):
            along = (self.matrix @ columns[:, c]).reshape(n, -1)
            out[:, c] = self.objective.adjoint @ self.objective.product(self.theta, along).ravel()
        if self.extra is not None:
            out += self.extra[:, None] * columns
        return out.reshape(vector.shape)

    def estimate(self, vector):
        """Roughly H^-1 vector: the preconditioner."""
        return self._precondition(vector.reshape(self.size, -1)).reshape(vector.shape)

    def solve(self, vector, tolerance=None):
        tolerance = self.tolerance if tolerance is None else tolerance
        columns = vector.reshape(self.size, -1)
        y = self.objective.layout.border
        if len(y):
            out = solve_bordered(self.product, self._precondition, columns, y, tolerance)
        else:
            out = conjugate_gradients(self.product, self._precondition, columns, tolerance, 60)
        return out.reshape(vector.shape)

    def _precondition(self, r):
        return np.stack([self._precondition_one(r[:, c]) for c in range(r.shape[1])], axis=1)

    def _precondition_one(self, r):
        layout = self.objective.layout
        f, n, units = layout.first, layout.n_units, layout.units
        of_c = np.zeros(n)
        of_c[units] = r[f[4] : f[5]]
        r = r - np.append(
            (self.objective.adjoint @ (of_c[:, None] * self.mean).ravel())[: f[4]], np.zeros(layout.size - f[4])
        )
        out = np.zeros(self.size)
        place = self.inverse_place
        i, j = place[layout.pairs].T if layout.n_pairs else (np.zeros(0, int),) * 2
        out[: f[1]] = self._lyapunov(i, j, r[: f[1]], True)
        if layout.n_directed:
            for k in layout.directed_lags:
                at = np.flatnonzero(layout.directed[:, 0] == k)
                i, j = place[layout.directed[at, 1:]].T
                out[f[2] + at] = self._lyapunov(i, j, r[f[2] + at], False)
        out[layout.border] = r[layout.border]
        out[f[4] : f[5]] = r[f[4] : f[5]] / self.total
        couplings = np.append(out[: f[4]], np.zeros(layout.size - f[4]))
        out[f[4] : f[5]] -= ((self.matrix @ couplings).reshape(n, -1) * self.mean).sum(axis=1)[units]
        out[f[5] :] = r[f[5] :] / self.driven_total
        return out

    def _driven(self, objective):
        """Sums of p (1 - p) x^2 of the u, with p (1 - p) as if it did not depend on the input."""
        layout = objective.layout
        if not layout.n_driven:
            return np.zeros(0)
        unit, q = layout.driven.T
        rows = objective.patterns.rows_with(objective.ranges, layout.counted.stop, layout.n_values)
        mean_square = (rows @ layout.values**2) / objective.n_rows
        return objective.at(self.theta).variance[unit] * mean_square[q]

    def _lyapunov(self, i, j, r, is_symmetric):
        n = len(self.total)
        g = np.zeros((n, n))
        g[i, j] = r
        if is_symmetric:
            g[j, i] = r
        e = self.scaled.T @ g @ self.scaled / (self.value[:, None] + self.value)
        return (self.scaled @ e @ self.scaled.T)[i, j]
