"""Spreading a stored array over ranks: blocks, halo exchange, exact sums, gather and scatter.

The domain knows extents, periodicity and the width of the halo; it knows nothing of fields or physics.  The first
axes are cut, the last one never, so a line along it lives on one rank: a rank adds its lines in a fixed order and
the line sums are combined exactly, which gives the same bits for any number of ranks.

Halos travel by persistent point-to-point messages whose tags name axis and direction: neighborhood collectives mix up
the two neighbors on several MPI libraries when a periodic axis has one or two ranks.
"""

from __future__ import annotations

import itertools
import math
import os

import numpy as np

from lft._kernels import halo as _halo
from lft.errors import DivergenceError, DomainError, LftError

DIRECT_BYTES = 65536
"""Faces of one piece and at least so large travel without copies; smaller ones by persistent requests."""

_SIZE_VARIABLES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS")


def launched_ranks():
    """Number of processes that a launcher says it started (1 without one), from the environment alone."""
    return max((int(os.environ[v]) for v in _SIZE_VARIABLES if os.environ.get(v, "").isdigit()), default=1)


def launched_rank():
    """Number of this process in its launcher's count (0 without a launcher), from the environment alone."""
    variables = ("OMPI_COMM_WORLD_RANK", "PMI_RANK", "MV2_COMM_WORLD_RANK", "SLURM_PROCID")
    ranks = (os.environ[v] for v in variables if os.environ.get(v, "").isdigit())
    return int(next(ranks, "0")) if launched_ranks() > 1 else 0


def world():
    """The communicator of all ranks, or None for a serial run (one rank, no mpi4py, or no MPI library).

    Raises LftError when a launcher started several processes but this MPI library sees only one: then ``mpirun``
    and the library do not belong together, and N processes would each run the whole job.
    """
    expected = launched_ranks()
    launcher = next((v for v in _SIZE_VARIABLES if os.environ.get(v) == str(expected)), "")
    try:
        from mpi4py import MPI

        comm = MPI.COMM_WORLD
        size = comm.Get_size()
    except (ImportError, RuntimeError):
        comm, size = None, 1
    if expected > 1 and size == 1:
        raise LftError(
            f"mpirun of another MPI: {launcher} says {expected} processes, the MPI library sees 1 (library: "
            f"{library_name()}); start with the mpirun of the library that mpi4py uses"
        )
    return comm if size > 1 else None


def split(comm, n_groups):
    """Consecutive ranks as ``n_groups`` groups of equal size.

    Returns
    -------
    within, across : communicator or None
        The ranks of this rank's group, and the ranks with the same place in all groups, in the order of the groups;
        None instead of a communicator of one rank.
    index : int
        This rank's group.
    """
    if comm is None:
        return None, None, 0
    size, rank = comm.Get_size() // n_groups, comm.Get_rank()
    within = comm.Split(rank // size, rank) if size > 1 else None
    across = comm.Split(rank % size, rank) if n_groups > 1 else None
    return within, across, rank // size


def library_name():
    """Name of the MPI library, or why there is none."""
    try:
        from mpi4py import MPI

        return MPI.Get_library_version().split("\n")[0].strip().rstrip("\0")
    except (ImportError, RuntimeError) as reason:
        return f"none ({str(reason).splitlines()[0]})"


def process_grid(shape, periodic, halo, n_ranks):
    """Ranks per axis: the last axis is never cut, each block is at least as wide as the halo, least halo traffic.

    Raises DomainError that names the largest usable number of ranks.
    """

    def grids(n):
        limits = [max(1, extent // max(1, halo[k])) for k, extent in enumerate(shape[:-1])]
        for head in _factorizations(n, len(shape) - 1):
            if all(p <= limit for p, limit in zip(head, limits, strict=True)):
                yield (*head, 1)

    def traffic(grid):
        blocks = [-(-extent // p) for extent, p in zip(shape, grid, strict=True)]
        volume = math.prod(blocks)
        return sum(volume // blocks[k] * max(1, halo[k]) for k in range(len(shape)) if grid[k] > 1)

    best = min(grids(n_ranks), key=lambda grid: (traffic(grid), [-p for p in grid]), default=None)
    if best is None:
        usable = next(n for n in range(n_ranks - 1, 0, -1) if next(grids(n), None) is not None)
        raise DomainError(
            f"{n_ranks} ranks cannot share a stored lattice of {' x '.join(map(str, shape))} planes (the last axis "
            f"is not cut, each block is at least {max(1, *halo)} wide): the largest usable number is {usable}"
        )
    return best


def _factorizations(n, n_axes):
    if n_axes == 0:
        return [()] if n == 1 else []
    if n_axes == 1:
        return [(n,)]
    divisors = [p for p in range(1, n + 1) if n % p == 0]
    return [(p, *rest) for p in divisors for rest in _factorizations(n // p, n_axes - 1)]


def _block(extent, n_blocks, index):
    """Start and stop of one of ``n_blocks`` nearly equal blocks."""
    size, extra = divmod(extent, n_blocks)
    start = index * size + min(index, extra)
    return start, start + size + (index < extra)


class Domain:
    """The block of a stored array that this rank owns, and its exchanges with the others.

    Parameters
    ----------
    shape : sequence of int
        Global extents in storage order.
    periodic : sequence of bool
        Which axes close on themselves.
    halo : sequence of int, optional
        Width of the halo per axis.  Default 0.
    comm : mpi4py communicator, optional
        None is the serial null object: same methods, no messages.
    grid : sequence of int, optional
        Ranks per axis; default :func:`process_grid`.  Arrays of other layouts (packed lines) follow a field's grid.

    Examples
    --------
    >>> from lft.domain import Domain
    >>> domain = Domain((4, 6), (True, False), (1, 1))
    >>> domain.padded_shape, domain.interior
    ((6, 8), (slice(1, 5, None), slice(1, 7, None)))
    """

    def __init__(self, shape, periodic, halo=None, comm=None, grid=None):
        self.shape = tuple(int(n) for n in shape)
        self.periodic = tuple(bool(p) for p in periodic)
        self.halo = tuple(halo) if halo is not None else (0,) * len(self.shape)
        self.comm = comm
        self.n_ranks = 1 if comm is None else comm.Get_size()
        self.rank = 0 if comm is None else comm.Get_rank()
        self.grid = grid or process_grid(self.shape, self.periodic, self.halo, self.n_ranks)
        self.slices = self.block_of(self.rank)
        self.local_shape = tuple(s.stop - s.start for s in self.slices)
        self.padded_shape = tuple(n + 2 * w for n, w in zip(self.local_shape, self.halo, strict=True))
        self.interior = tuple(slice(w, w + n) for n, w in zip(self.local_shape, self.halo, strict=True))
        self._steps = self._plan()
        self._messages, self._posted = {}, {}

    def __repr__(self):
        return f"Domain({self.shape}, {self.periodic}, {self.halo}, ranks={self.grid})"

    def block_of(self, rank):
        """Global slices of the block of any rank."""
        where = np.unravel_index(rank, self.grid)
        return tuple(
            slice(*_block(n, p, int(i))) for n, p, i in zip(self.shape, self.grid, where, strict=True)
        )

    @property
    def strides(self):
        """Flat strides of the padded local array, in cells."""
        tail = itertools.accumulate(reversed(self.padded_shape[1:]), lambda a, b: a * b, initial=1)
        return tuple(reversed(list(tail)))

    # ---- halo
    def _plan(self):
        """Exchange steps in axis order: ("runs", copy lists) for local wraps, ("axis", k) for messages."""
        steps = []
        for axis, width in enumerate(self.halo):
            if width == 0:
                continue
            if self.grid[axis] > 1:
                steps.append(("axis", axis))
            elif self.periodic[axis]:
                runs = self._wrap_runs(axis)
                if steps and steps[-1][0] == "runs":
                    steps[-1] = ("runs", [np.concatenate(p) for p in zip(steps[-1][1], runs, strict=True)])
                else:
                    steps.append(("runs", runs))
        return steps

    def _wrap_runs(self, axis):
        n, w, stride = self.local_shape[axis], self.halo[axis], self.strides[axis]
        if w > n:
            raise DomainError(f"storage axis {axis} is periodic with {n} planes, a halo of {w} needs at least {w}")
        outer = np.arange(math.prod(self.padded_shape[:axis]), dtype=np.intp) * (stride * self.padded_shape[axis])
        target = np.concatenate([outer, outer + (n + w) * stride])
        source = np.concatenate([outer + n * stride, outer + w * stride])
        return [target, source, np.full(len(target), w * stride, np.intp)]

    def exchange(self, *arrays):
        """Fill the halo of padded local arrays of one type from the neighbors; open ends keep zeros.

        Several arrays travel in the same messages.
        """
        self.begin(*arrays)
        self.end(*arrays)

    def begin(self, *arrays):
        """First half of :meth:`exchange`: the messages of the first cut axis are on their way when it returns.

        The edge planes of that axis (:attr:`first_cut`, as wide as its halo) must be final and stay; every other site
        may still change before :meth:`end`, which does the rest, but nobody may read the halo.
        """
        if self.first_cut is not None:
            self._start_axis(arrays, self.first_cut)

    def end(self, *arrays):
        """Second half of :meth:`exchange`."""
        for number, (kind, what) in enumerate(self._steps):
            if kind == "runs":
                for data in arrays:
                    _halo.copy_runs(data.reshape(-1), *what)
            else:
                if number:
                    self._start_axis(arrays, what)
                self._finish_axis(arrays, what)

    @property
    def local_copies(self):
        """Flat (target, source, length) of the runs that :meth:`exchange` copies without messages."""
        runs = [what for kind, what in self._steps if kind == "runs"]
        return [np.concatenate(parts) for parts in zip(*runs, strict=True)] if runs else [np.zeros(0, np.intp)] * 3

    @property
    def sends_messages(self):
        """Whether :meth:`exchange` needs other ranks."""
        return any(kind == "axis" for kind, _ in self._steps)

    @property
    def first_cut(self):
        """The axis whose messages :meth:`begin` sends; None if there is nothing to overlap with."""
        kind, what = self._steps[0] if self._steps else ("none", None)
        return what if kind == "axis" else None

    def _slab(self, axis, start, width):
        return tuple(slice(start, start + width) if k == axis else slice(None) for k in range(len(self.shape)))

    def _neighbor(self, axis, step):
        from mpi4py import MPI

        where = list(np.unravel_index(self.rank, self.grid))
        where[axis] += step
        if self.periodic[axis]:
            where[axis] %= self.grid[axis]
        if not 0 <= where[axis] < self.grid[axis]:
            return MPI.PROC_NULL
        return int(np.ravel_multi_index(where, self.grid))

    def _open_messages(self, axis, dtype, n_arrays):
        """Persistent requests of one axis: buffers [send down, send up, receive from up, receive from down]."""
        shape = (n_arrays, *(self.halo[axis] if k == axis else n for k, n in enumerate(self.padded_shape)))
        buffers = [np.zeros(shape, dtype) for _ in range(4)]
        down, up = self._neighbor(axis, -1), self._neighbor(axis, +1)
        tag_down, tag_up = 2 * axis, 2 * axis + 1
        requests = [
            self.comm.Send_init(buffers[0], down, tag_down),
            self.comm.Send_init(buffers[1], up, tag_up),
            self.comm.Recv_init(buffers[2], up, tag_down),
            self.comm.Recv_init(buffers[3], down, tag_up),
        ]
        return buffers, requests

    def _is_direct(self, arrays, axis):
        """Whether the planes of a face are one piece of memory, and so many that copies of them would cost."""
        n_bytes = self.halo[axis] * self.strides[axis] * arrays[0].itemsize
        return math.prod(self.padded_shape[:axis]) == 1 and n_bytes >= DIRECT_BYTES

    def _post(self, arrays, axis):
        """Messages straight between the arrays: requests."""
        down, up = self._neighbor(axis, -1), self._neighbor(axis, +1)
        n, w = self.local_shape[axis], self.halo[axis]
        requests = []
        for k, data in enumerate(arrays):
            tag_down, tag_up = (2 * (axis + k * len(self.shape)) + side for side in (0, 1))
            requests += [
                self.comm.Irecv(data[self._slab(axis, n + w, w)], up, tag_down),
                self.comm.Irecv(data[self._slab(axis, 0, w)], down, tag_up),
                self.comm.Isend(data[self._slab(axis, w, w)], down, tag_down),
                self.comm.Isend(data[self._slab(axis, n, w)], up, tag_up),
            ]
        return requests

    def _start_axis(self, arrays, axis):
        from mpi4py import MPI

        if self._is_direct(arrays, axis):
            self._posted[axis] = self._post(arrays, axis)
            return
        key = (axis, arrays[0].dtype.str, len(arrays))
        if key not in self._messages:
            self._messages[key] = self._open_messages(axis, arrays[0].dtype, len(arrays))
        buffers, requests = self._messages[key]
        n, w = self.local_shape[axis], self.halo[axis]
        for k, data in enumerate(arrays):
            buffers[0][k] = data[self._slab(axis, w, w)]
            buffers[1][k] = data[self._slab(axis, n, w)]
        MPI.Prequest.Startall(requests)

    def _finish_axis(self, arrays, axis):
        from mpi4py import MPI

        if axis in self._posted:
            MPI.Request.Waitall(self._posted.pop(axis))
            return
        buffers, requests = self._messages[axis, arrays[0].dtype.str, len(arrays)]
        MPI.Request.Waitall(requests)
        n, w = self.local_shape[axis], self.halo[axis]
        for k, data in enumerate(arrays):
            data[self._slab(axis, n + w, w)] = buffers[2][k]
            data[self._slab(axis, 0, w)] = buffers[3][k]

    def close(self):
        """Free the persistent requests; a later exchange opens them again."""
        for _, requests in self._messages.values():
            for request in requests:
                request.Free()
        self._messages.clear()

    # ---- sums
    def sum_int(self, values):
        """Element-wise sum over ranks of an int64 array."""
        values = np.ascontiguousarray(values, dtype=np.int64)
        if self.comm is None:
            return values
        total = np.empty_like(values)
        self.comm.Allreduce(values, total)
        return total

    def allgather(self, rows):
        """The int64 rows (n, m) of all ranks, in the order of the ranks; n may differ between them."""
        rows = np.ascontiguousarray(rows, dtype=np.int64)
        if self.comm is None:
            return rows
        counts = np.array(self.comm.allgather(rows.size))
        whole = np.empty(counts.sum(), np.int64)
        self.comm.Allgatherv(rows, (whole, counts))
        return whole.reshape(-1, *rows.shape[1:])

    def sum_limbs(self, limbs, n_bad, what):
        """Correctly rounded global sums of exact accumulators (n, limbs), the same bits for any number of ranks."""
        packed = self.sum_int(np.append(limbs.ravel(), n_bad))
        if packed[-1]:
            raise DivergenceError(f"{what}: {int(packed[-1])} values are not finite")
        return np.array([_halo.round_limbs(row) for row in packed[:-1].reshape(limbs.shape)])

    def sum_lines(self, values, what="sum"):
        """Exact global sum of one float per local line."""
        values = np.ascontiguousarray(values, dtype=np.float64).ravel()
        return float(self.sum_groups(values, np.zeros(len(values), np.intp), 1, what)[0])

    def sum_groups(self, values, group, n_groups, what="sum"):
        """Exact global sums of local floats by group, (n_groups,)."""
        limbs = np.zeros((n_groups, _halo.N_LIMBS), np.int64)
        bad = _halo.deposit(np.ascontiguousarray(values, np.float64), np.ascontiguousarray(group, np.intp), limbs)
        return self.sum_limbs(limbs, bad, what)

    def sum_columns(self, values, what="sum"):
        """Exact global sums of the columns of local floats (n, m), (m,)."""
        limbs = np.zeros((values.shape[1], _halo.N_LIMBS), np.int64)
        return self.sum_limbs(limbs, _halo.deposit_columns(np.ascontiguousarray(values, np.float64), limbs), what)

    # ---- whole arrays
    def gather(self, values):
        """The global array in storage order on rank 0 (None elsewhere) from each rank's block."""
        values = np.ascontiguousarray(values)
        if self.comm is None:
            return values.copy()
        if self.rank:
            self.comm.Send(values, 0, tag=100)
            return None
        whole = np.empty(self.shape, values.dtype)
        whole[self.slices] = values
        for rank in range(1, self.n_ranks):
            slices = self.block_of(rank)
            block = np.empty(tuple(s.stop - s.start for s in slices), values.dtype)
            self.comm.Recv(block, rank, tag=100)
            whole[slices] = block
        return whole

    def scatter(self, whole, dtype):
        """Each rank's block of a global array that rank 0 holds."""
        if self.comm is None:
            return np.ascontiguousarray(whole, dtype)
        if self.rank == 0:
            for rank in range(1, self.n_ranks):
                self.comm.Send(np.ascontiguousarray(whole[self.block_of(rank)], dtype), rank, tag=101)
            return np.ascontiguousarray(whole[self.slices], dtype)
        block = np.empty(self.local_shape, dtype)
        self.comm.Recv(block, 0, tag=101)
        return block

    def broadcast(self, value):
        """Rank 0's value of any picklable object on every rank."""
        return value if self.comm is None else self.comm.bcast(value, 0)

    def broadcast_from(self, value, rank):
        """The value that one rank has, of any picklable object, on every rank."""
        return value if self.comm is None else self.comm.bcast(value, rank)

    def any(self, flag):
        """True on every rank if True on one."""
        return bool(self.sum_int(np.array([int(flag)]))[0])
