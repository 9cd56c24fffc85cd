"""Bit-sliced sweeps of a chain of spins: a lattice of one axis as a single row of bits."""

from __future__ import annotations

import numpy as np

from lft.actions import Ising
from lft.bits import IsingBits, axis_couplings, refusal
from lft.errors import InputError
from lft.field import Field
from lft.geometry import Lattice


class IsingLine:
    """What :class:`lft.bits.IsingBits` does, for a chain of spins: one row of bits that every rank keeps whole.

    The row is not cut, since one color of it is updated at once: every rank does all the work and needs no messages
    but those of :meth:`load`, so ranks do not speed it up, and the chain does not depend on their number.
    """

    can_reside = True

    def __init__(self, action, phi, updater_name):
        reason = refusal(action, phi, updater_name)
        if reason:
            raise InputError(f"bit-sliced sweeps: {reason}")
        geometry = phi.geometry
        lattice = Lattice((1, *geometry.shape), boundary=("open", *geometry.boundary))  # an axis t would come first
        self.phi = phi
        self._row = Field(lattice, "spin")
        couplings = (0.0, *axis_couplings(action, geometry))
        self._bits = IsingBits(Ising(couplings, action.couplings["h"]), self._row, updater_name)
        self.domain = self._bits.domain
        self._mine = phi.domain.slices[0]

    def load(self):
        """Pack the whole row from the blocks of all ranks (collective)."""
        whole = np.zeros(self._bits.length, np.int64)
        whole[self._mine] = self.phi.values[:, 0]
        self._row.values[0] = self.phi.domain.sum_int(whole)
        self._bits.load()

    def store(self):
        """Write block and halo of this rank to the field."""
        self._bits.store()
        self.phi.resident = None
        domain, row = self.phi.domain, self._row.values[0]
        at = np.arange(domain.padded_shape[0]) - domain.halo[0] + self._mine.start
        is_there = (at >= 0) & (at < len(row)) | domain.periodic[0]
        self.phi.data[is_there, domain.halo[1]] = row[at[is_there] % len(row)]

    def sweep(self, t, key_word, n=1):
        """``n`` sweeps; proposals are those of this rank's sites, all changes are counted by rank 0."""
        _, changed = self._bits.sweep(t, key_word, n)
        return n * self.phi.domain.local_shape[0], changed if self.phi.domain.rank == 0 else 0

    def exchange(self, other):
        """Trade configurations with another copy of the same layout."""
        self._bits.exchange(other._bits)
        self.phi.resident, other.phi.resident = self, other

    def measure(self):
        """Sums as those of :class:`IsingBits`, all of them on rank 0."""
        bonds, total = self._bits.measure()
        is_root = self.phi.domain.rank == 0
        return bonds[1:] * is_root, total * is_root

    def site_sum(self):
        """sum_x s_x on rank 0."""
        return int(self.measure()[1])

    def bond_sum(self, displacement):
        """sum_x s_x s_(x+1) on rank 0."""
        return int(self.measure()[0][0]) if displacement == (1,) else None

    def plane_sums(self, axis):
        """The spins of this rank's block; across the storage axis of extent 1 their sum, on rank 0."""
        return self._bits.plane_sums(1)[self._mine] if axis == 0 else np.array([self.site_sum()])
