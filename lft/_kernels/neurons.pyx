# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Steps of many independent neurons on given input paths: the built-in models of mean-field sampling.

Design.
- Paths lie as (step, neuron), as the samplers make them: one step of all neurons is a contiguous row, state arrays (M)
  stay in the first-level cache, and the random numbers of a step are one batch of Philox, the same that the NumPy
  classes draw.  The NumPy classes are the reference (``tests/unit/test_neuron_kernels.py``).
- What a compiler cannot do well is left to NumPy on whole arrays: gains (its tanh and exp are vectorized, libm's are
  not) are applied before or after these loops, which keep the recursions alone.  Where the exponential is part of the
  recursion it is C (upstroke.c).
- Measured per neuron and step while both cores were busy, M = 200 / 1250: integrate-and-fire 14 / 18 ns (NumPy steps
  88 / 26), leaky integrator with noise 17 / 18 (55 / 15), binary 11 / 11 (31 / 11).  Small M is what replicas have; a
  step in NumPy costs its calls whatever M, and with many neurons the random numbers, which both make alike, are most of
  the time.
- Normals of input paths are drawn, centered and stored row by row while a row is in the first-level cache, in the
  precision in which the product that follows is taken: 12 ms for 2000 x 1250 (drawn, copied, centered and scaled as whole
  arrays: 22).
- Not built, and not measured: a (neuron, step) layout, whose draws would be strided, and steps in single precision.
"""
from libc.math cimport exp as libm_exp, sqrt
from libc.stdint cimport uint32_t, uint64_t
from lft._kernels cimport noise
import numpy as np

cdef extern from "upstroke.h" nogil:
    ctypedef struct lft_upstroke:
        double dt, tau, rest, critical, slope, peak, reset, refractory, a, b, share
    void lft_upstroke_run(const lft_upstroke *cell, int kind, Py_ssize_t n_steps, Py_ssize_t m, const double *h,
                          double *v, double *w, double *held, double *y)
    void lft_upstroke_exp(double *x, Py_ssize_t n)
    const char *lft_upstroke_path()
    int lft_upstroke_force(const char *name)


ctypedef fused real:
    float
    double


def centered_normals(real[:, ::1] z, uint32_t stream, uint64_t key):
    """Normals (rows, samples) of which each row has the sample mean 0, times sqrt(m/(m - 1)) for what that takes."""
    cdef Py_ssize_t n = z.shape[0], m = z.shape[1], k, i
    cdef double[::1] u = np.empty(max(m, 1)), v = np.empty(max(m, 1))
    cdef double *row
    cdef double mean, scale = sqrt(m / (m - 1.0)) if m > 1 else 1.0
    with nogil:
        for k in range(n):
            if k & 1 == 0:
                noise.uniforms(0, 1, m, k >> 1, stream, 0, key, &u[0], &v[0])
                noise.normals(&u[0], &v[0], m)
            row = &v[0] if k & 1 else &u[0]
            mean = 0.0
            for i in range(m):
                mean += row[i]
            mean /= m
            for i in range(m):
                z[k, i] = <real> (scale * (row[i] - mean))


def low_pass_pairs(double[:, ::1] c, double b):
    """A C A^T in place for ``(A x)_k = b (A x)_(k-1) + (1 - b) x_k``, on and below the diagonal of a symmetric C.

    Both filters in one pass over rows: 6 ms for 2000 x 2000 (``scipy.signal.lfilter`` along either axis: 72).
    """
    cdef Py_ssize_t n = c.shape[0], k, l
    cdef double along, share = 1 - b
    with nogil:
        for k in range(n):
            along = 0.0
            for l in range(k):
                along = b * along + share * c[k, l]
                c[k, l] = b * c[k - 1, l] + share * along
            along = b * along + share * c[k, k]
            c[k, k] = b * (c[k, k - 1] if k else 0.0) + share * along


cdef class Supply:
    """Random numbers call by call, as :class:`lft.meanfield.saddle.draws.Draws` gives them out."""
    cdef double[::1] u, v
    cdef uint64_t first, key
    cdef uint32_t stream, draw
    cdef Py_ssize_t n
    cdef uint64_t call
    cdef int kind
    cdef bint is_filled

    def __init__(self, Py_ssize_t n, uint64_t first, uint64_t call, uint32_t stream, uint32_t draw, uint64_t key,
                 int kind):
        self.u, self.v = np.empty(max(n, 1)), np.empty(max(n, 1))
        self.n, self.first, self.call, self.stream, self.draw, self.key = n, first, call, stream, draw, key
        self.kind, self.is_filled = kind, False

    cdef double *next(self) noexcept nogil:
        """Numbers of the next call."""
        cdef bint is_second = self.call & 1
        if not (is_second and self.is_filled):
            noise.uniforms(self.first, 1, self.n, self.call >> 1, self.stream, self.draw, self.key, &self.u[0],
                           &self.v[0])
            if self.kind == 1:
                noise.normals(&self.u[0], &self.v[0], self.n)
            elif self.kind == 2:
                noise.exponential(&self.u[0], self.n)
                noise.exponential(&self.v[0], self.n)
            self.is_filled = True
        self.call += 1
        return &self.v[0] if is_second else &self.u[0]


def integrate_and_fire(double[::1] v, double[::1] rest, double[::1] current, const double[:, ::1] h,
                       const double[::1] white, double dt, double tau, double decay, double slow, double threshold,
                       double reset, double refractory, Supply uniform, double[:, ::1] y):
    """Leaky integrate-and-fire steps; states in place, outputs (spikes/dt) into ``y``."""
    cdef Py_ssize_t n_steps = h.shape[0], m = h.shape[1], k, i
    cdef double variance, edge, x, after, free, per_step = 1.0 / dt
    cdef double *u
    cdef bint is_held, spikes, bridges
    with nogil:
        for k in range(n_steps):
            variance = white[k] / (tau * tau) * dt
            bridges = variance > 0 and slow == 0
            edge = threshold - 6.0 * sqrt(variance) if bridges else threshold
            u = uniform.next()
            for i in range(m):
                x = h[k, i]
                if slow != 0:
                    current[i] = slow * current[i] + (1 - slow) * x
                    x = current[i]
                is_held = rest[i] != 0
                if is_held:
                    free = dt - rest[i]
                    after = x + (reset - x) * libm_exp(-(free if free > 0 else 0.0) / tau)
                    rest[i] = rest[i] - dt if rest[i] > dt else 0.0
                else:
                    after = x + (v[i] - x) * decay
                spikes = after >= threshold
                if bridges and not spikes and not is_held and after > edge:
                    spikes = u[i] < libm_exp(-2.0 * (threshold - v[i]) * (threshold - after) / variance)
                if spikes:
                    after = reset
                    rest[i] = refractory - 0.5 * dt
                v[i] = after
                y[k, i] = per_step if spikes else 0.0


def leaky(const double[:, ::1] h, double decay, double kick, Supply normal, double[:, ::1] x):
    """``x[k + 1] = decay x[k] + (1 - decay) h[k] + kick N(0, 1)``; x[0] is given."""
    cdef Py_ssize_t n_steps = h.shape[0], m = h.shape[1], k, i
    cdef double share = 1 - decay
    cdef double *z
    with nogil:
        for k in range(n_steps):
            if kick != 0:
                z = normal.next()
                for i in range(m):
                    x[k + 1, i] = (decay * x[k, i] + share * h[k, i]) + kick * z[i]
            else:
                for i in range(m):
                    x[k + 1, i] = decay * x[k, i] + share * h[k, i]


def flips(double[::1] state, const double[:, ::1] p, bint is_sharp, double p_update, double low, double high,
          Supply uniform, double[:, ::1] y):
    """Binary neurons: ``p`` (T, M) is the probability of the upper state, or the distance to the threshold."""
    cdef Py_ssize_t n_steps = p.shape[0], m = p.shape[1], k, i
    cdef double *u
    with nogil:
        for k in range(n_steps):
            if is_sharp:
                for i in range(m):
                    y[k, i] = high if p[k, i] > 0 else low
            else:
                u = uniform.next()
                for i in range(m):
                    y[k, i] = high if u[i] < p[k, i] else low
            if p_update < 1.0:
                u = uniform.next()
                for i in range(m):
                    y[k, i] = y[k, i] if u[i] < p_update else state[i]
            for i in range(m):
                state[i] = y[k, i]


def fire(double[::1] rest, const double[:, ::1] hazard, double dt, double refractory, Supply exponential,
         double[:, ::1] y):
    """Escape-rate neurons without adaptation: a spike where an exponential variate is below ``hazard`` (T, M)."""
    cdef Py_ssize_t n_steps = hazard.shape[0], m = hazard.shape[1], k, i
    cdef double free, per_step = 1.0 / dt
    cdef double *e
    cdef bint spikes
    with nogil:
        for k in range(n_steps):
            e = exponential.next()
            for i in range(m):
                free = 1.0 - rest[i] / dt
                free = 0.0 if free < 0 else (1.0 if free > 1 else free)
                spikes = e[i] < hazard[k, i] * free
                rest[i] = refractory if spikes else (rest[i] - dt if rest[i] > dt else 0.0)
                y[k, i] = per_step if spikes else 0.0


def upstroke(kind, double[::1] v, double[::1] w, double[::1] held, const double[:, ::1] h, double dt, double tau,
             double rest, double critical, double slope, double peak, double reset, double refractory, double a,
             double b, double tau_w, double[:, ::1] y):
    """Steps of ``qif``, ``eif`` or ``adex`` neurons (design: upstroke.c); states in place, spikes/dt into ``y``."""
    cdef lft_upstroke cell
    cell.dt, cell.tau, cell.rest, cell.critical, cell.slope = dt, tau, rest, critical, slope
    cell.peak, cell.reset, cell.refractory, cell.a, cell.b, cell.share = peak, reset, refractory, a, b, dt / tau_w
    cdef int law = ("qif", "eif", "adex").index(kind)
    cdef Py_ssize_t n_steps = h.shape[0], m = h.shape[1]
    if n_steps and m:
        with nogil:
            lft_upstroke_run(&cell, law, n_steps, m, &h[0, 0], &v[0], &w[0], &held[0], &y[0, 0])


def exp(values):
    """The exponential of these steps (for tests): same bits on every instruction set, arguments within +-700."""
    out = np.array(values, dtype=float).ravel()
    cdef double[::1] x = out
    if x.shape[0]:
        lft_upstroke_exp(&x[0], x.shape[0])
    return out


def instruction_set():
    """Name of the path of :func:`upstroke` in use: ``avx512``, ``avx2`` or ``baseline``."""
    return (<bytes>lft_upstroke_path()).decode()


def force_instruction_set(name):
    """Use a given path (tests compare them); raises ValueError where the processor lacks it."""
    if not lft_upstroke_force(name.encode()):
        raise ValueError(f"instruction set {name!r} is not available on this processor")
