# ruff: noqa: NPY002  (in compiled loops the legacy generator is numba's fast one)
"""Hand-written numba loops: what a Python user writes without lft.  fastmath, as one would."""

import math

import numba
import numpy as np


@numba.njit(fastmath=True)
def ising_2d(s, table, n_sweeps):
    """Checkerboard Metropolis; table[4 + s h] is exp(-2 beta s h)."""
    n, m = s.shape
    for _ in range(n_sweeps):
        for color in range(2):
            for i in range(n):
                up, down = i - 1 if i > 0 else n - 1, i + 1 if i < n - 1 else 0
                for j in range((i + color) & 1, m, 2):
                    left, right = j - 1 if j > 0 else m - 1, j + 1 if j < m - 1 else 0
                    d = s[i, j] * (s[up, j] + s[down, j] + s[i, left] + s[i, right])
                    if d <= 0 or np.random.random() < table[4 + d]:
                        s[i, j] = -s[i, j]


@numba.njit(fastmath=True)
def ising_3d(s, table, n_sweeps):
    """The same in three dimensions."""
    o, n, m = s.shape
    for _ in range(n_sweeps):
        for color in range(2):
            for k in range(o):
                back, front = k - 1 if k > 0 else o - 1, k + 1 if k < o - 1 else 0
                for i in range(n):
                    up, down = i - 1 if i > 0 else n - 1, i + 1 if i < n - 1 else 0
                    for j in range((k + i + color) & 1, m, 2):
                        left, right = j - 1 if j > 0 else m - 1, j + 1 if j < m - 1 else 0
                        d = s[k, i, j] * (s[k, up, j] + s[k, down, j] + s[k, i, left] + s[k, i, right]
                                          + s[back, i, j] + s[front, i, j])
                        if d <= 0 or np.random.random() < table[6 + d]:
                            s[k, i, j] = -s[k, i, j]


@numba.njit(fastmath=True)
def sparse(s, h, first, neighbor, J, beta, n_sweeps):
    """Sequential Metropolis with cached fields; an accepted flip visits the neighbors."""
    for _ in range(n_sweeps):
        for i in range(len(s)):
            d = 2 * s[i] * h[i]
            if d <= 0 or np.random.random() < math.exp(-beta * d):
                s[i] = -s[i]
                for k in range(first[i], first[i + 1]):
                    h[neighbor[k]] += 2 * s[i] * J[k]


@numba.njit(fastmath=True)
def dense(s, h, J, beta, n_sweeps):
    """The same on a dense matrix, float32: an accepted flip adds a row."""
    for _ in range(n_sweeps):
        for i in range(len(s)):
            d = 2 * s[i] * h[i]
            if d <= 0 or np.random.random() < math.exp(-beta * d):
                s[i] = -s[i]
                h += 2 * s[i] * J[i]


@numba.njit(fastmath=True)
def leapfrog_2d(x, p, eps, kappa, lam, n_steps):
    """Two passes: all kicks, then all drifts."""
    n, m = x.shape
    for _ in range(n_steps):
        for i in range(n):
            up, down = i - 1 if i > 0 else n - 1, i + 1 if i < n - 1 else 0
            for j in range(m):
                left, right = j - 1 if j > 0 else m - 1, j + 1 if j < m - 1 else 0
                f = x[i, j]
                hop = x[up, j] + x[down, j] + x[i, left] + x[i, right]
                p[i, j] += eps * (2 * kappa * hop - 2 * f - 4 * lam * f * (f * f - 1))
        for i in range(n):
            for j in range(m):
                x[i, j] += eps * p[i, j]


@numba.njit(fastmath=True)
def leapfrog_3d(x, p, eps, kappa, lam, n_steps):
    """The same in three dimensions."""
    o, n, m = x.shape
    for _ in range(n_steps):
        for k in range(o):
            back, front = k - 1 if k > 0 else o - 1, k + 1 if k < o - 1 else 0
            for i in range(n):
                up, down = i - 1 if i > 0 else n - 1, i + 1 if i < n - 1 else 0
                for j in range(m):
                    left, right = j - 1 if j > 0 else m - 1, j + 1 if j < m - 1 else 0
                    f = x[k, i, j]
                    hop = (x[k, up, j] + x[k, down, j] + x[k, i, left] + x[k, i, right]
                           + x[back, i, j] + x[front, i, j])
                    p[k, i, j] += eps * (2 * kappa * hop - 2 * f - 4 * lam * f * (f * f - 1))
        for k in range(o):
            for i in range(n):
                for j in range(m):
                    x[k, i, j] += eps * p[k, i, j]
