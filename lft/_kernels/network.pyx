# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Loops of finite neural networks: drawing of partners, summed inputs, binary flips, integrate-and-fire steps.

Design.
- Weights lie by presynaptic neuron: row j holds what neuron j does to the neurons of this rank.  A summed input then
  adds the presynaptic neurons in one fixed order, whatever part of the targets a rank owns, so that results have the
  same bits on any number of ranks.  (Rows by target and a BLAS product give sums whose order depends on the shape.)
- The dense product is bound by memory: 8 rows are added per pass, each once from memory, the output stays in cache.
- Spikes and flips go out by row: cost = weights of the neurons that changed, not N^2.  The ring of future inputs is
  (slots, targets); one slot of 12,500 doubles fits a second-level cache, where the scattered additions go.
- Partners of a target come from one uniform per possible partner (Knuth's selection sampling): a fixed number of
  random numbers, and ascending lists.  12,500 x 12,500 take 0.6 s.
- Random numbers are Philox of (neuron or event, step, stream), batches of them per call, as everywhere (philox.c).
"""
from libc.math cimport erfc, tanh
from libc.stdint cimport int8_t, int32_t, int64_t, uint32_t, uint64_t
from lft._kernels cimport noise
import numpy as np

ctypedef fused weight_t:
    float
    double

DEF BATCH = 4096
HEAVISIDE, ERFC, LOGISTIC = range(3)


def count_partners(double probability, Py_ssize_t n_pre, Py_ssize_t n_rows, uint64_t t0, uint32_t stream,
                   uint64_t key):
    """Partners of each row of a Bernoulli ensemble, for :func:`draw_partners`."""
    counts = np.zeros(n_rows, np.int64)
    cdef int64_t[::1] count = counts
    cdef double[::1] u = np.empty(max(n_pre, 1)), v = np.empty(max(n_pre, 1))
    cdef Py_ssize_t i, j
    cdef int64_t n
    with nogil:
        for i in range(n_rows):
            noise.uniforms(0, 1, n_pre, t0 + i, stream, 0, key, &u[0], &v[0])
            n = 0
            for j in range(n_pre):
                n += u[j] < probability
            count[i] = n
    return counts


def draw_partners(double probability, Py_ssize_t indegree, Py_ssize_t n_pre, const int64_t[::1] start, uint64_t t0,
                  uint32_t stream, uint64_t key):
    """Ascending partners of each row: ``indegree`` of them at random, or each with ``probability`` if indegree < 0."""
    cdef Py_ssize_t n_rows = start.shape[0] - 1, i, j, k, left
    partners = np.empty(start[n_rows], np.int32)
    cdef int32_t[::1] to = partners
    cdef double[::1] u = np.empty(max(n_pre, 1)), v = np.empty(max(n_pre, 1))
    with nogil:
        for i in range(n_rows):
            noise.uniforms(0, 1, n_pre, t0 + i, stream, 0, key, &u[0], &v[0])
            k = start[i]
            if indegree >= 0:
                left = indegree
                for j in range(n_pre):
                    if left == 0:
                        break
                    if (n_pre - j) * u[j] < left:
                        to[k] = <int32_t> j
                        k += 1
                        left -= 1
            else:
                for j in range(n_pre):
                    if u[j] < probability:
                        to[k] = <int32_t> j
                        k += 1
    return partners


def dense_add(const weight_t[:, ::1] weight, const double[::1] y, double[::1] out):
    """``out_i += sum_j weight[j, i] y_j``, j ascending."""
    cdef Py_ssize_t n_pre = weight.shape[0], n = weight.shape[1], i, j
    cdef const weight_t *a
    cdef double *o = &out[0] if n else NULL
    cdef double y0, y1, y2, y3
    if n == 0 or n_pre == 0:
        return
    with nogil:
        for j in range(0, n_pre - n_pre % 4, 4):
            a = &weight[j, 0]
            y0, y1, y2, y3 = y[j], y[j + 1], y[j + 2], y[j + 3]
            for i in range(n):
                o[i] = (((o[i] + a[i] * y0) + a[n + i] * y1) + a[2 * n + i] * y2) + a[3 * n + i] * y3
        for j in range(n_pre - n_pre % 4, n_pre):
            a = &weight[j, 0]
            y0 = y[j]
            for i in range(n):
                o[i] = o[i] + a[i] * y0


def sparse_add(const int64_t[::1] start, const int32_t[::1] target, const double[::1] weight, const double[::1] y,
               double[::1] out):
    """``out[target] += weight y_j`` for every presynaptic j whose y is not 0; one weight means that all are equal."""
    cdef Py_ssize_t j, k, one = weight.shape[0] == 1
    cdef double x
    with nogil:
        for j in range(start.shape[0] - 1):
            if y[j] == 0.0:
                continue
            if one:
                x = weight[0] * y[j]
                for k in range(start[j], start[j + 1]):
                    out[target[k]] += x
            else:
                for k in range(start[j], start[j + 1]):
                    out[target[k]] += weight[k] * y[j]


def deliver(const int64_t[::1] start, const int32_t[::1] target, const double[::1] weight,
            const int64_t[:, ::1] spikes, Py_ssize_t delay, double[:, ::1] ring):
    """Put spikes, rows of (step, presynaptic neuron), into the slots ``(step + delay) % slots`` of the ring."""
    cdef Py_ssize_t s, k, j, one = weight.shape[0] == 1, slots = ring.shape[0]
    cdef double x
    cdef double *row
    with nogil:
        for s in range(spikes.shape[0]):
            j = spikes[s, 1]
            row = &ring[(spikes[s, 0] + delay) % slots, 0]
            if one:
                x = weight[0]
                for k in range(start[j], start[j + 1]):
                    row[target[k]] += x
            else:
                for k in range(start[j], start[j + 1]):
                    row[target[k]] += weight[k]


cdef inline double switched_on(int gain, double x) noexcept nogil:
    """Probability of the upper state."""
    if gain == 1:
        return 0.5 * erfc(-x * 0.7071067811865476)
    if gain == 2:
        return 0.5 * (1.0 + tanh(0.5 * x))
    return 1.0 if x > 0 else 0.0


def glauber(double[::1] y, double[::1] h, const int64_t[::1] first, const double[::1] rate, const double[::1] low,
            const double[::1] high, const double[::1] threshold, const double[::1] width,
            const int64_t[::1] gain, list networks, int64_t n_events, uint64_t event0, uint32_t stream, uint64_t key):
    """Events of asynchronous binary neurons: a random neuron takes the upper state with the probability of its gain.

    ``first`` (populations + 1) are the first neurons of the populations, ``rate`` their updates per neuron and time, the
    other numbers one per population too;
    ``networks`` are (first presynaptic, size, first target, start, target, weight, dense weights or None).
    """
    cdef Py_ssize_t n_pop = rate.shape[0], a, i, j, k, n_net = len(networks), c, base
    cdef int64_t event = 0, m, todo
    cdef double total = 0.0, x, new, change, jump
    cdef double[::1] u = np.empty(BATCH), v = np.empty(BATCH), cumulative = np.empty(n_pop)
    for a in range(n_pop):
        total += rate[a] * (first[a + 1] - first[a])
        cumulative[a] = total
    pre0_a = np.array([n[0] for n in networks] or [0], np.int64)
    pre1_a = np.array([n[0] + n[1] for n in networks] or [0], np.int64)
    post0_a = np.array([n[2] for n in networks] or [0], np.int64)
    cdef int64_t[::1] pre0 = pre0_a, pre1 = pre1_a, post0 = post0_a
    # pointers of all connections; the arrays live in `networks`
    pointers = np.zeros((5, max(n_net, 1)), np.int64)
    cdef int64_t[:, ::1] p = pointers
    cdef const int64_t[::1] start_view
    cdef const int32_t[::1] target_view
    cdef const double[::1] weight_view
    cdef const double[:, ::1] dense_view
    for c in range(n_net):
        if networks[c][6] is not None:
            dense_view = networks[c][6]
            p[3, c] = <int64_t> <size_t> &dense_view[0, 0]
            p[4, c] = dense_view.shape[1]
        else:
            start_view, target_view, weight_view = networks[c][3], networks[c][4], networks[c][5]
            p[0, c] = <int64_t> <size_t> &start_view[0]
            p[1, c] = <int64_t> <size_t> (&target_view[0] if target_view.shape[0] else NULL)
            p[2, c] = <int64_t> <size_t> &weight_view[0]
            p[4, c] = 1 if weight_view.shape[0] == 1 else 0
    cdef const int64_t *start
    cdef const int32_t *target
    cdef const double *weight
    cdef double *out
    with nogil:
        while event < n_events:
            todo = n_events - event
            if todo > BATCH:
                todo = BATCH
            noise.uniforms(event0 + event, 1, todo, 0, stream, 0, key, &u[0], &v[0])
            for m in range(todo):
                x = u[m] * total
                a = 0
                while a < n_pop - 1 and x >= cumulative[a]:
                    a += 1
                if a:
                    x -= cumulative[a - 1]
                i = first[a] + <int64_t> (x / rate[a])
                if i >= first[a + 1]:
                    i = first[a + 1] - 1
                new = high[a] if v[m] < switched_on(<int> gain[a], (h[i] - threshold[a]) / width[a]) else low[a]
                change = new - y[i]
                if change == 0.0:
                    continue
                y[i] = new
                for c in range(n_net):
                    if i < pre0[c] or i >= pre1[c]:
                        continue
                    j = i - pre0[c]
                    out = &h[post0[c]]
                    if p[3, c]:
                        weight = (<const double *> <size_t> p[3, c]) + j * p[4, c]
                        for k in range(p[4, c]):
                            out[k] += weight[k] * change
                        continue
                    start = <const int64_t *> <size_t> p[0, c]
                    target = <const int32_t *> <size_t> p[1, c]
                    weight = <const double *> <size_t> p[2, c]
                    if p[4, c]:
                        jump = weight[0] * change
                        for k in range(start[j], start[j + 1]):
                            out[target[k]] += jump
                    else:
                        for k in range(start[j], start[j + 1]):
                            out[target[k]] += weight[k] * change
            event += todo


def integrate_and_fire(double[::1] V, int32_t[::1] refractory, double[::1] current, double[:, ::1] ring,
                       double decay, double current_decay, double current_to_V, double threshold, double reset,
                       int32_t refractory_steps, const double[::1] drive, double kick, list external,
                       int64_t neuron0, int64_t step0, Py_ssize_t n_steps, uint32_t stream, uint64_t key,
                       int8_t[:, ::1] raster):
    """Steps of leaky integrate-and-fire neurons; returns the spikes as rows of (step, neuron of this rank).

        V <- decay V + (1 - decay) drive[step] + current_to_V current + kick N(0,1),    current <- current_decay current

    then arriving spikes: into the current if ``current_to_V`` > 0, else into V.  A refractory neuron stays at reset
    and loses what jumps its potential.  ``external`` are tables of a cumulated Poisson law: (jump, probabilities).
    """
    cdef Py_ssize_t n = V.shape[0], k, i, e, slots = ring.shape[0], n_out = 0, c, n_ext = len(external)
    cdef int is_current = current_to_V > 0
    cdef double[::1] u = np.empty(max(n, 1)), v = np.empty(max(n, 1))
    cdef double *slot
    cdef double jump, x
    cdef const double[::1] law
    cdef const int32_t[::1] guide
    cdef double scale
    spikes = np.empty((max(n * n_steps, 1), 2), np.int64) if n * n_steps < 1 << 16 else \
        np.empty((n * (n_steps // (refractory_steps + 1) + 1), 2), np.int64)
    cdef int64_t[:, ::1] out = spikes
    for k in range(n_steps):
        slot = &ring[(step0 + k) % slots, 0]
        for e in range(n_ext):
            jump, law, guide = external[e]
            scale = guide.shape[0] - 1
            with nogil:
                noise.uniforms(neuron0, 1, n, step0 + k, stream, <uint32_t> e, key, &u[0], &v[0])
                for i in range(n):
                    c = guide[<Py_ssize_t> (u[i] * scale)]
                    while u[i] >= law[c]:
                        c += 1
                    slot[i] += jump * c
        if kick > 0:
            with nogil:
                noise.uniforms(neuron0, 1, n, step0 + k, stream, 255, key, &u[0], &v[0])
                noise.normals(&u[0], &v[0], n)
        with nogil:
            x = (1.0 - decay) * drive[k]
            for i in range(n):
                if refractory[i] > 0:
                    refractory[i] -= 1
                else:
                    V[i] = decay * V[i] + x + current_to_V * current[i]
                    if kick > 0:
                        V[i] += kick * u[i]
                    if not is_current:
                        V[i] += slot[i]
                if is_current:
                    current[i] = current_decay * current[i] + slot[i]
                slot[i] = 0.0
                if V[i] >= threshold:
                    V[i] = reset
                    refractory[i] = refractory_steps
                    raster[k, i] = 1
                    out[n_out, 0] = step0 + k
                    out[n_out, 1] = i
                    n_out += 1
                else:
                    raster[k, i] = 0
    return spikes[:n_out].copy()
