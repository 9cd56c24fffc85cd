"""Many systems on many ranks: members (temperatures, restarts) are dealt to groups of ranks, and the ranks of a group
share the lattice of each of its members.

With P ranks and n members there are as many groups as the largest divisor of P that does not exceed n: with few ranks
each group is one rank that holds several members, with many ranks each member's lattice is spread over a domain.
Numbers that all ranks need are shared bit by bit, so results depend neither on P nor on the split.
"""

from __future__ import annotations

import numpy as np

from lft.domain import split


class Groups:
    """Which members this rank serves, and the messages between groups.

    Parameters
    ----------
    comm : mpi4py communicator or None
        All ranks; None is one rank that holds every member.
    n_members : int
        Number of members, >= 1.

    Attributes
    ----------
    within : communicator or None
        The ranks that share each member's lattice; None if that is this rank alone.
    members : range
        Members of this rank's group: consecutive, so that neighbors mostly meet in one memory.

    Examples
    --------
    >>> from lft.groups import Groups
    >>> groups = Groups(None, 3)
    >>> groups.members, groups.n_groups
    (range(0, 3), 1)
    """

    def __init__(self, comm, n_members):
        self.comm = comm
        self.n_ranks = 1 if comm is None else comm.Get_size()
        self.rank = 0 if comm is None else comm.Get_rank()
        self.n_members = n_members
        self.n_groups = max(g for g in range(1, min(self.n_ranks, n_members) + 1) if self.n_ranks % g == 0)
        self.within, self._across, self.index = split(comm, self.n_groups)
        self._owned = [m * self.n_groups // n_members for m in range(n_members)]
        mine = [m for m in range(n_members) if self.owner(m) == self.index]
        self.members = range(mine[0], mine[-1] + 1)
        self._is_root = self.rank % (self.n_ranks // self.n_groups) == 0  # the first rank of its group

    def owner(self, member):
        """The group that holds a member."""
        return self._owned[member]

    def share(self, table):
        """Rows by member: each group fills those of its own, all ranks get the whole float64 table, bit by bit."""
        if self._across is None:
            return table
        bits = np.zeros(table.shape, np.int64)
        bits[self.members.start : self.members.stop] = table[self.members.start : self.members.stop].view(np.int64)
        whole = np.empty_like(bits)
        self._across.Allreduce(bits, whole)
        return whole.view(np.float64)

    def trade(self, data, member, other):
        """Replace a member's local array by that of a member of another group, and give it ours."""
        there, tag = self.owner(other), min(member, other)
        self._across.Sendrecv_replace(data, there, tag, there, tag)

    def collect(self, member, value):
        """A value that the first rank of the member's group holds, on rank 0 (None elsewhere)."""
        owner = self.owner(member)
        if owner == 0:
            return value if self.rank == 0 else None
        if self._is_root and self.index == owner:
            self._across.send(value, 0, tag=member)
        if self.rank == 0:
            return self._across.recv(source=owner, tag=member)
        return None

    def deliver(self, member, value):
        """A value that rank 0 holds, on the first rank of the member's group (None elsewhere)."""
        owner = self.owner(member)
        if self.rank == 0:
            if owner == 0:
                return value
            self._across.send(value, owner, tag=member)
        elif self._is_root and self.index == owner:
            return self._across.recv(source=0, tag=member)
        return None

    def merge(self, mapping):
        """The union of all ranks' dictionaries (collective)."""
        parts = [mapping] if self.comm is None else self.comm.allgather(mapping)
        return {key: value for part in parts for key, value in part.items()}

    def sum_int(self, values):
        """Element-wise sum over all ranks of an int64 array."""
        values = np.ascontiguousarray(values, dtype=np.int64)
        if self.comm is None:
            return values
        total = np.empty_like(values)
        self.comm.Allreduce(values, total)
        return total

    def close(self):
        """Give the communicators back to the MPI library (collective)."""
        for comm in (self.within, self._across):
            if comm is not None:
                comm.Free()
        self.within = self._across = None
