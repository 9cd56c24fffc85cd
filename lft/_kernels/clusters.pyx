# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Clusters of sites joined by random bonds: labelling, flips, sums per cluster, and growth of a single cluster.

Design
------
- A bond of strength w joins p and n when ``w f_p f_n > e`` with an exponential variate e, i.e. with probability
  1 - exp(-w f_p f_n) if that is positive (w = 2K for spins, 4 kappa for the signs of a real field).  The variate of the
  bond (site, direction m) is word m%2 of the Philox block (site, draw m//2), so a bond is active or not
  whoever asks.  Direction n_bonds of a site is its bond to the ghost spin, ``w_x f_x > e``.
- Cell 0 of ``parent`` is the ghost spin, cell p+1 the flat padded cell p.  Always parent[x] <= x: sets are joined by
  Rem's algorithm, which links the larger root below the smaller while it walks up both paths.  So the root is
  the smallest cell, the cluster of the ghost has root 0, and one ascending pass flattens all paths.
- Neighbors come line by line: for every line and direction the caller gives the first cell of the neighboring line,
  already wrapped where an axis is whole here, so that no cell needs a look-up.  Lines of another rank are addressed in
  the halo; their active bonds go to a list, which the caller exchanges.
- Active bonds of a line are first collected without a branch, then joined: the branch would be mispredicted for
  every other bond.
- Flips: bit (site % 64) of the words of block (site // 64), so 64 sites share a block.
- A single cluster grows from the sites that joined last, up to 64 at a time: their bonds that lead to sites not yet
  inside are collected, the blocks drawn together (vectorized over scattered sites), and then tested.  One block per
  bond drawn alone costs 10 ns.  Only the cells of the cluster are touched.  Measured on the way, ns per site of a
  cluster (1024^2): breadth first 80, last joined first 70, without branches on spins and outcomes 52, with the
  arrays in plain pointers 45.

Arrays: ``f`` flat padded field; ``parent`` (cells + 1) of int32 or int64; ``p0``, ``s0``, ``q0`` first cell, global
site and cell of the time slice of each line; ``base`` (lines, directions) first cell of the neighboring line, -1
where there is none.

Measured (one thread, AMD Zen 4 under load, 2-D Ising 1024^2 at criticality), ns per site of a Swendsen-Wang update:
noise, bonds and joining 12.3, flattening 0.55, coins 0.7, flips 1.5.
"""
from libc.stdint cimport int32_t, int64_t, uint64_t
from lft._kernels cimport noise

ctypedef fused cell_t:
    signed char
    double

ctypedef fused index_t:
    int32_t
    int64_t

cdef enum:
    CHUNK = 64  # sites of a growing cluster that are treated together
    CANDIDATES = 512  # bonds that are drawn together

N_CANDIDATES = CANDIDATES


cdef inline void _unite(index_t *parent, index_t x, index_t y) noexcept nogil:
    cdef index_t a = parent[x], b = parent[y]
    while a != b:
        if a < b:
            if y == b:
                parent[y] = a
                return
            parent[y] = a
            y = b
            b = parent[b]
        else:
            if x == a:
                parent[x] = b
                return
            parent[x] = b
            x = a
            a = parent[a]


cdef inline Py_ssize_t _join(const cell_t *f, index_t *parent, double w, Py_ssize_t p, Py_ssize_t n, Py_ssize_t count,
                             const double *e, Py_ssize_t *pick, Py_ssize_t *cross, Py_ssize_t n_cross,
                             bint is_remote) noexcept nogil:
    # bonds of the cells p + j with n + j, j < count; returns the length of the list of bonds to other ranks
    cdef Py_ssize_t j, k = 0
    for j in range(count):
        pick[k] = j
        k += w * (f[p + j] * f[n + j]) > e[j]
    if is_remote:
        for j in range(k):
            cross[2 * n_cross] = p + pick[j]
            cross[2 * n_cross + 1] = n + pick[j]
            n_cross += 1
    else:
        for j in range(k):
            _unite(parent, <index_t>(p + pick[j] + 1), <index_t>(n + pick[j] + 1))
    return n_cross


def lattice_bonds(const cell_t[::1] f, index_t[::1] parent, const Py_ssize_t[::1] p0, const Py_ssize_t[::1] q0,
                  const uint64_t[::1] s0, Py_ssize_t length, const Py_ssize_t[:, ::1] base,
                  const signed char[:, ::1] remote, const Py_ssize_t[::1] along, bint wraps, const double[::1] weight,
                  const double[::1] ghost, uint64_t shift, uint64_t t, int stream, uint64_t key,
                  double[:, ::1] buffer, Py_ssize_t[::1] pick, Py_ssize_t[:, ::1] cross):
    """Join all sites by active bonds, from scratch; returns how many pairs of cells went to ``cross``.

    ``along`` is the step of each direction along the line, ``ghost`` the weights of the bonds to the ghost spin over
    the padded time slice (or None), ``shift`` is added to the sites of the counter.
    """
    cdef Py_ssize_t i, j, k, m, d, b, n_bonds = weight.shape[0], n_cross = 0
    cdef Py_ssize_t n_blocks = (n_bonds + (ghost is not None) + 1) // 2
    cdef double *u = &buffer[0, 0]
    cdef double *v = &buffer[1, 0]
    cdef double *e
    cdef const cell_t *cells = &f[0]
    cdef index_t *set_of = &parent[0]
    cdef Py_ssize_t *list_ = &cross[0, 0]
    cdef Py_ssize_t *picked = &pick[0]
    with nogil:
        for j in range(parent.shape[0]):
            set_of[j] = <index_t>j
        for i in range(p0.shape[0]):
            for k in range(n_blocks):
                noise.uniforms(s0[i] + shift, 1, length, t, stream, <int>k, key, u, v)
                for m in range(2 * k, min(2 * k + 2, n_bonds + 1)):
                    e = v if m & 1 else u
                    if m == n_bonds:
                        if ghost is not None:
                            noise.exponential(e, length)
                            for j in range(length):
                                if ghost[q0[i] + j] * cells[p0[i] + j] > e[j]:
                                    _unite(set_of, <index_t>0, <index_t>(p0[i] + j + 1))
                        continue
                    b = base[i, m]
                    if b < 0:
                        continue
                    noise.exponential(e, length)
                    d = along[m]
                    # sites whose neighbor lies inside the line, and those beyond its end
                    if d >= 0:
                        n_cross = _join(cells, set_of, weight[m], p0[i], b + d, length - d, e, picked, list_, n_cross,
                                        remote[i, m])
                        if wraps and d:
                            n_cross = _join(cells, set_of, weight[m], p0[i] + length - d, b, d, e + length - d, picked,
                                            list_, n_cross, remote[i, m])
                    else:
                        n_cross = _join(cells, set_of, weight[m], p0[i] - d, b, length + d, e - d, picked, list_,
                                        n_cross, remote[i, m])
                        if wraps:
                            n_cross = _join(cells, set_of, weight[m], p0[i], b + length + d, -d, e, picked, list_,
                                            n_cross, remote[i, m])
    return n_cross


def graph_bonds(const signed char[::1] f, index_t[::1] parent, const Py_ssize_t[::1] p0, const uint64_t[::1] bin_of,
                Py_ssize_t n_units, const int32_t[::1] first, const int32_t[::1] second, const double[::1] weight,
                const double[::1] ghost, uint64_t shift, uint64_t t, int stream, uint64_t key, double[:, ::1] buffer):
    """The same for the copies of a graph: bond b of bin a is word b%2 of block a*ceil(n_bonds/2) + b//2, draw 0; the
    bond to the ghost spin belongs to draw 1 of the site."""
    cdef Py_ssize_t i, j, b, m, n_bonds = weight.shape[0], blocks = (n_bonds + 1) // 2, size = buffer.shape[1], n
    cdef double *u = &buffer[0, 0]
    cdef double *v = &buffer[1, 0]
    cdef const signed char *s
    cdef index_t *set_of = &parent[0]
    cdef double e
    with nogil:
        for j in range(parent.shape[0]):
            set_of[j] = <index_t>j
        for i in range(p0.shape[0]):
            s = &f[p0[i]]
            b = 0
            while b < blocks:
                n = min(size, blocks - b)
                noise.uniforms(bin_of[i] * <uint64_t>blocks + <uint64_t>b + shift, 1, n, t, stream, 0, key, u, v)
                noise.exponential(u, n)
                noise.exponential(v, n)
                for j in range(min(2 * n, n_bonds - 2 * b)):
                    e = v[j >> 1] if j & 1 else u[j >> 1]
                    m = 2 * b + j
                    if weight[m] * (s[first[m]] * s[second[m]]) > e:
                        _unite(set_of, <index_t>(p0[i] + first[m] + 1), <index_t>(p0[i] + second[m] + 1))
                b += size
            if ghost is not None:
                b = 0
                while b < n_units:
                    n = min(size, n_units - b)
                    noise.uniforms(bin_of[i] * <uint64_t>n_units + <uint64_t>b + shift, 1, n, t, stream, 1, key, u, v)
                    noise.exponential(u, n)
                    for j in range(n):
                        if ghost[b + j] * s[b + j] > u[j]:
                            _unite(set_of, <index_t>0, <index_t>(p0[i] + b + j + 1))
                    b += size


def flatten(index_t[::1] parent, const Py_ssize_t[::1] p0, Py_ssize_t length):
    """Let every site point at its root."""
    cdef Py_ssize_t i, p
    cdef index_t *set_of = &parent[0]
    with nogil:
        for i in range(p0.shape[0]):
            for p in range(p0[i] + 1, p0[i] + length + 1):
                set_of[p] = set_of[set_of[p]]


def join_pairs(int64_t[::1] parent, const int64_t[:, ::1] pairs):
    """Join the numbered sets of each pair; ``parent`` ends up as the smallest number of each set."""
    cdef Py_ssize_t k
    with nogil:
        for k in range(pairs.shape[0]):
            _unite(&parent[0], pairs[k, 0], pairs[k, 1])
        for k in range(parent.shape[0]):
            parent[k] = parent[parent[k]]


def site_labels(const index_t[::1] parent, const Py_ssize_t[::1] p0, const uint64_t[::1] s0, Py_ssize_t length,
                int64_t[::1] label):
    """Global site of the root of each cell, -1 for the cluster of the ghost spin (paths are flat)."""
    cdef Py_ssize_t i, j
    cdef index_t root
    with nogil:
        for i in range(p0.shape[0]):
            for j in range(length):
                root = parent[p0[i] + j + 1]
                if root == 0:
                    label[p0[i] + j] = -1
                elif root == p0[i] + j + 1:
                    label[p0[i] + j] = <int64_t>s0[i] + j
                else:
                    label[p0[i] + j] = label[root - 1]


cdef inline uint64_t _word(double u, double v) noexcept nogil:
    return <uint64_t>(u * 4294967296.0) << 32 | <uint64_t>(v * 4294967296.0)


def draw_flips(signed char[::1] flip, const Py_ssize_t[::1] p0, const uint64_t[::1] s0, Py_ssize_t length, uint64_t t,
               int stream, int draw, uint64_t key, double[:, ::1] buffer):
    """flip[cell + 1] = fair bit of the site of every cell: what the cluster does whose root it is."""
    cdef Py_ssize_t i, j, m, n
    cdef uint64_t first, word, site
    cdef double *u = &buffer[0, 0]
    cdef double *v = &buffer[1, 0]
    cdef signed char *out
    with nogil:
        flip[0] = 0
        for i in range(p0.shape[0]):
            out = &flip[p0[i] + 1]
            first = s0[i] >> 6
            n = <Py_ssize_t>(((s0[i] + <uint64_t>length - 1) >> 6) - first) + 1
            noise.uniforms(first, 1, n, t, stream, draw, key, u, v)
            j = 0
            for m in range(n):
                word = _word(u[m], v[m])
                site = s0[i] + <uint64_t>j
                word >>= site & 63
                while j < length and (s0[i] + <uint64_t>j) >> 6 == first + <uint64_t>m:
                    out[j] = word & 1
                    word >>= 1
                    j += 1


def flip_bits(const uint64_t[::1] site, uint64_t t, int stream, int draw, uint64_t key):
    """The fair bits of some sites, as :func:`draw_flips` draws them."""
    import numpy as np
    bits = np.empty(site.shape[0], np.int8)
    cdef signed char[::1] out = bits
    cdef double u, v
    cdef Py_ssize_t k
    for k in range(site.shape[0]):
        noise.uniforms(site[k] >> 6, 1, 1, t, stream, draw, key, &u, &v)
        out[k] = _word(u, v) >> (site[k] & 63) & 1
    return bits


def apply_flips(cell_t[::1] f, const index_t[::1] parent, signed char[::1] flip, const Py_ssize_t[::1] p0,
                Py_ssize_t length):
    """Flip the sites whose root has its bit set (paths are flat); returns how many were flipped."""
    cdef Py_ssize_t i, j
    cdef int64_t flipped = 0
    cdef signed char *bit = &flip[0]
    cdef const index_t *set_of
    cdef cell_t *cells
    with nogil:
        for i in range(p0.shape[0]):
            cells = &f[p0[i]]
            set_of = &parent[p0[i] + 1]
            for j in range(length):
                bit[p0[i] + j + 1] = bit[set_of[j]]
            for j in range(length):
                flipped += bit[p0[i] + j + 1] & (cells[j] != 0)
                # 0 - x rather than -x: absent sites keep +0
                cells[j] = <cell_t>(0 - cells[j]) if bit[p0[i] + j + 1] else cells[j]
    return flipped


def ghost_hits(const signed char[::1] f, const signed char[::1] member, const Py_ssize_t[::1] p0,
               const Py_ssize_t[::1] q0, const uint64_t[::1] s0, Py_ssize_t length, const double[::1] ghost, int draw,
               bint is_second, uint64_t shift, uint64_t t, int stream, uint64_t key, double[:, ::1] buffer):
    """Number of active bonds between the ghost spin and the marked cells (``member`` has the ghost in front)."""
    cdef Py_ssize_t i, j
    cdef int64_t hits = 0
    cdef double *u = &buffer[0, 0]
    cdef double *v = &buffer[1, 0]
    cdef double *e = v if is_second else u
    with nogil:
        for i in range(p0.shape[0]):
            noise.uniforms(s0[i] + shift, 1, length, t, stream, draw, key, u, v)
            noise.exponential(e, length)
            for j in range(length):
                if member[p0[i] + j + 1] and ghost[q0[i] + j] * f[p0[i] + j] > e[j]:
                    hits += 1
    return hits


def add_cells(const cell_t[::1] f, const index_t[::1] parent, const Py_ssize_t[::1] p0, Py_ssize_t length,
              const int64_t[:, ::1] factor, int64_t[::1] total):
    """total[root] += f * factor[line, j] over the cells of every cluster; ``factor`` may have one row or one column."""
    cdef Py_ssize_t i, j
    cdef Py_ssize_t row = 1 if factor.shape[0] > 1 else 0, column = 1 if factor.shape[1] > 1 else 0
    with nogil:
        for j in range(total.shape[0]):
            total[j] = 0
        for i in range(p0.shape[0]):
            for j in range(length):
                total[parent[p0[i] + j + 1]] += <int64_t>f[p0[i] + j] * factor[row * i, column * j]


def power_lines(const int64_t[::1] total, const Py_ssize_t[::1] p0, Py_ssize_t length, double scale,
                double[:, ::1] out):
    """out[i] = sums of (scale total)^2, (scale total)^4 and total over the roots on line i."""
    cdef Py_ssize_t i, j
    cdef int64_t whole
    cdef double x, a, b
    with nogil:
        for i in range(p0.shape[0]):
            a = b = 0.0
            whole = 0
            for j in range(p0[i] + 1, p0[i] + length + 1):
                if total[j]:
                    whole += total[j]
                    x = scale * <double>total[j]
                    x *= x
                    a += x
                    b += x * x
            out[i, 0], out[i, 1], out[i, 2] = a, b, <double>whole


cdef class Growth:
    """Memory of a growing cluster: marks of the cells, its members, and a stack, all as large as the field."""
    cdef signed char[::1] mark
    cdef Py_ssize_t[::1] member, stack
    cdef uint64_t[::1] site
    cdef Py_ssize_t near[CHUNK]
    cdef uint64_t near_site[CHUNK]
    cdef Py_ssize_t size, top  # members of the cluster, sites of them whose bonds are still to be drawn
    cdef double[:, ::1] buffer
    cdef uint64_t[::1] block
    cdef Py_ssize_t[::1] cell, other
    cdef uint64_t[::1] other_site
    cdef int64_t[::1] direction

    def __init__(self, mark):
        import numpy as np
        self.mark = mark  # 2: halo; 1: inside; 0: free
        self.member, self.stack = np.empty(len(mark) + 1, np.intp), np.empty(len(mark) + 1, np.intp)
        self.site = np.empty(len(mark) + 1, np.uint64)  # one spare: stores come before the decision
        self.buffer = np.empty((2, CANDIDATES))
        self.block = np.empty(CANDIDATES, np.uint64)
        self.cell, self.other = np.empty(CANDIDATES, np.intp), np.empty(CANDIDATES, np.intp)
        self.other_site = np.empty(CANDIDATES, np.uint64)
        self.direction = np.empty(CANDIDATES, np.int64)

    cdef void begin(self, Py_ssize_t cell, uint64_t site) noexcept nogil:
        self.size = self.top = 0
        self.add(cell, site)

    cdef inline void add(self, Py_ssize_t cell, uint64_t site) noexcept nogil:
        self.mark[cell] = 1
        self.member[self.size] = self.stack[self.top] = cell
        self.site[self.top] = site
        self.size += 1
        self.top += 1

    cdef inline Py_ssize_t take(self) noexcept nogil:
        # the sites that joined last, whose surroundings are still in the cache
        cdef Py_ssize_t k, n = min(<Py_ssize_t>CHUNK, self.top)
        self.top -= n
        for k in range(n):
            self.near[k], self.near_site[k] = self.stack[self.top + k], self.site[self.top + k]
        return n

    cdef int64_t finish(self, signed char *f, bint is_frozen, int64_t *total) noexcept nogil:
        # clear the marks, flip unless frozen; returns the number of flipped sites
        cdef Py_ssize_t k
        total[0] = 0
        for k in range(self.size):
            total[0] += f[self.member[k]]
            self.mark[self.member[k]] = 0
        if is_frozen:
            return 0
        for k in range(self.size):
            f[self.member[k]] = -f[self.member[k]]
        return self.size


cdef inline void _test(Growth g, const signed char *f, const double *weight, Py_ssize_t n, uint64_t t, int stream,
                       int draw, uint64_t key) noexcept nogil:
    # draw and judge n collected bonds; the sites won join the cluster.  No branch on the outcome: half would be missed
    cdef Py_ssize_t k, q, size = g.size, top = g.top
    cdef Py_ssize_t *member = &g.member[0]
    cdef Py_ssize_t *stack = &g.stack[0]
    cdef uint64_t *site = &g.site[0]
    cdef signed char *mark = &g.mark[0]
    cdef const Py_ssize_t *other = &g.other[0]
    cdef const Py_ssize_t *cell = &g.cell[0]
    cdef const int64_t *direction = &g.direction[0]
    cdef double *u = &g.buffer[0, 0]
    cdef double *v = &g.buffer[1, 0]
    cdef int wins
    if n == 0:
        return
    noise.uniforms_at(&g.block[0], n, t, stream, draw, key, u, v)
    for k in range(n):
        u[k] = v[k] if direction[k] & 1 else u[k]
    noise.exponential(u, n)
    for k in range(n):
        q = other[k]
        wins = (mark[q] == 0) & (weight[direction[k] >> 1] * (f[cell[k]] * f[q]) > u[k])
        mark[q] |= wins
        member[size] = stack[top] = q
        site[top] = g.other_site[k]
        size += wins
        top += wins
    g.size, g.top = size, top


cdef inline int _reaches_ghost(Growth g, const signed char *f, const double *ghost, Py_ssize_t near,
                               Py_ssize_t modulus, bint is_second, uint64_t t, int stream, int draw,
                               uint64_t key) noexcept nogil:
    # whether one of the sites just taken has an active bond to the ghost spin; g.block holds their blocks
    cdef Py_ssize_t k
    cdef double *u = &g.buffer[0, 0]
    cdef double *v = &g.buffer[1, 0]
    cdef double *e = v if is_second else u
    cdef int hits = 0
    noise.uniforms_at(&g.block[0], near, t, stream, draw, key, u, v)
    noise.exponential(e, near)
    for k in range(near):
        hits |= ghost[g.near[k] % modulus] * f[g.near[k]] > e[k]
    return hits


def grow_lattice(Growth g, signed char[::1] f, Py_ssize_t seed_cell, uint64_t seed_site, const Py_ssize_t[::1] offset,
                 const int64_t[::1] site_step, const int32_t[::1] home, const Py_ssize_t[:, ::1] axes,
                 const double[::1] weight, const double[::1] ghost, Py_ssize_t slice_size, uint64_t shift, uint64_t t,
                 int stream, uint64_t key):
    """Grow the cluster of a site over the active bonds and flip it unless it is tied to the ghost spin.

    ``offset`` and ``site_step`` are the steps of each direction in cells and in sites; a neighbor in the halo is looked
    up in ``home`` (-1: does not exist), its site follows from ``axes``, rows (stride in cells, halo, stride in
    sites).  Returns (sites, flipped sites, sum of spins).
    """
    cdef Py_ssize_t near, k, i, m, p, q, n, half, rest, c, a, n_bonds = weight.shape[0]
    cdef uint64_t site, other
    cdef int is_frozen = 0
    cdef int64_t total = 0, flipped
    cdef signed char *s = &f[0]
    cdef const signed char *mark = &g.mark[0]
    cdef const double *w = &weight[0] if n_bonds else NULL
    # plain pointers: through the object every store would make the compiler read them again
    cdef Py_ssize_t *cell = &g.cell[0]
    cdef Py_ssize_t *partner = &g.other[0]
    cdef uint64_t *partner_site = &g.other_site[0]
    cdef uint64_t *block = &g.block[0]
    cdef int64_t *direction = &g.direction[0]
    cdef Py_ssize_t step
    cdef int64_t leap
    cdef double pull
    with nogil:
        g.begin(seed_cell, seed_site)
        while g.top:
            near = g.take()
            if ghost is not None:
                for i in range(near):
                    g.block[i] = g.near_site[i] + shift
                is_frozen |= _reaches_ghost(g, s, &ghost[0], near, slice_size, n_bonds & 1, t, stream,
                                            <int>(n_bonds // 2), key)
            for k in range((n_bonds + 1) // 2):
                n = 0
                for i in range(near):
                    p, site = g.near[i], g.near_site[i]
                    for m in range(2 * k, min(2 * k + 2, n_bonds)):
                        step, leap, pull = offset[m], site_step[m], w[m] * s[p]
                        for half in range(2):
                            q, other = p + step, site + <uint64_t>leap
                            step, leap = -step, -leap
                            if mark[q] == 2:
                                q = home[q]
                                if q < 0:
                                    continue
                                rest, other = q, 0
                                for a in range(axes.shape[0]):
                                    c = rest // axes[a, 0]
                                    rest -= c * axes[a, 0]
                                    other += <uint64_t>((c - axes[a, 1]) * axes[a, 2])
                            cell[n], partner[n], partner_site[n] = p, q, other
                            block[n] = (other if half else site) + shift
                            direction[n] = 2 * m + (m & 1)
                            n += (mark[q] == 0) & (pull * s[q] > 0)
                    if n + 4 > CANDIDATES - 1:
                        _test(g, s, w, n, t, stream, <int>k, key)
                        n = 0
                _test(g, s, w, n, t, stream, <int>k, key)
        flipped = g.finish(s, is_frozen, &total)
    return g.size, flipped, total


def grow_graph(Growth g, signed char[::1] f, Py_ssize_t p0, uint64_t bin_of, Py_ssize_t n_units, Py_ssize_t seed_unit,
               const Py_ssize_t[::1] indptr, const int32_t[::1] index, const int32_t[::1] bond,
               const double[::1] weight, const double[::1] ghost, uint64_t shift, uint64_t ghost_shift, uint64_t t,
               int stream, uint64_t key):
    """The same in one copy of a graph; ``bond`` numbers the bond of each entry of the symmetric pattern."""
    cdef Py_ssize_t near, j, i, k, p, q, n = 0, blocks = (weight.shape[0] + 1) // 2
    cdef int is_frozen = 0
    cdef int64_t total = 0, flipped
    cdef signed char *s = &f[0]
    cdef const signed char *mark = &g.mark[0]
    cdef const double *w = &weight[0] if weight.shape[0] else NULL
    with nogil:
        g.begin(p0 + seed_unit, 0)
        while g.top:
            near = g.take()
            if ghost is not None:
                for j in range(near):
                    g.block[j] = bin_of * <uint64_t>n_units + <uint64_t>(g.near[j] - p0) + ghost_shift
                is_frozen |= _reaches_ghost(g, s, &ghost[0] - p0, near, g.mark.shape[0], 0, t, stream, 1, key)
            n = 0
            for j in range(near):
                p = g.near[j]
                i = p - p0
                for k in range(indptr[i], indptr[i + 1]):
                    q = p0 + index[k]
                    g.cell[n], g.other[n] = p, q
                    g.block[n] = bin_of * <uint64_t>blocks + <uint64_t>(bond[k] >> 1) + shift
                    g.direction[n] = 2 * bond[k] + (bond[k] & 1)
                    n += (mark[q] == 0) & (w[bond[k]] * (s[p] * s[q]) > 0)
                    if n == CANDIDATES:
                        _test(g, s, w, n, t, stream, 0, key)
                        n = 0
            _test(g, s, w, n, t, stream, 0, key)
        flipped = g.finish(s, is_frozen, &total)
    return g.size, flipped, total
