"""The field: a local array with its halo, the geometry it lives on, and the domain that knows the other ranks.

A simulated configuration and a binned recording are the same type, so every observable, blocking and fit works on
both.  Values are stored time first.  ``kind`` says what a value means:

===========  =========  ======================================================
kind         dtype      values
===========  =========  ======================================================
``"spin"``   int8       -1, +1; 0 where no site exists
``"gas"``    int8       0, 1 (silent, spike)
``"real"``   float64    any finite number; 0 where no site exists (float32 where an action asks for it)
===========  =========  ======================================================

The halo of width ``domain.halo`` around the local block holds copies of the neighbors' edge planes (zeros beyond an
open end, where no site exists).
"""

from __future__ import annotations

import numpy as np

from lft.domain import Domain
from lft.errors import InputError

DTYPES = {"spin": np.int8, "gas": np.int8, "real": np.float64}


class Field:
    """A field on a lattice or graph, distributed over the ranks of a domain.

    Parameters
    ----------
    geometry : Lattice or Graph
    kind : {"spin", "gas", "real"}
    domain : Domain, optional
        How the stored array is spread over ranks, and the width of the halo.  Default: serial, no halo.
    dtype : dtype, optional
        Of a real field: float64 (default) or float32.

    Examples
    --------
    >>> import numpy as np
    >>> from lft.field import Field
    >>> from lft.geometry import Lattice
    >>> lattice = Lattice((3, 2, 4), ("x", "y", "t"))
    >>> field = Field.from_array(lattice, "spin", np.ones((3, 2, 4)))
    >>> field.values.shape, int(field.values.sum())
    ((4, 3, 2), 24)
    """

    def __init__(self, geometry, kind, domain=None, dtype=None):
        if kind not in DTYPES:
            raise InputError(f"field kind {kind!r}: valid are {', '.join(DTYPES)}")
        self.geometry = geometry
        self.kind = kind
        self.domain = domain or Domain(geometry.storage_shape, geometry.storage_periodic)
        self.resident = None
        self._data = np.zeros(self.domain.padded_shape, dtype or DTYPES[kind])

    @classmethod
    def from_array(cls, geometry, kind, array, domain=None):
        """A field from a global array in the user's axis order (the same on every rank)."""
        array = np.asarray(array)
        if array.shape != tuple(geometry.shape):
            raise InputError(f"array has shape {array.shape}, the geometry {tuple(geometry.shape)}")
        return cls.from_storage(geometry, kind, geometry.to_storage(array), domain)

    @classmethod
    def from_storage(cls, geometry, kind, array, domain=None):
        """A field from a global array in storage order (the same on every rank); inactive sites become 0."""
        field = cls(geometry, kind, domain)
        if array.shape != field.domain.shape:
            raise InputError(f"array has shape {array.shape}, the stored field {field.domain.shape}")
        field.values[...] = array[field.domain.slices]
        mask = field.local_mask()
        if mask is not None:
            field.values[...] *= mask
        field.check()
        field.exchange()
        return field

    def check(self):
        """Raise InputError where a value is not one that this kind of field can take."""
        values = self.values
        if self.kind == "real":
            if not np.isfinite(values).all():
                raise InputError("field: every value must be finite")
            return
        low, high = (-1, 1) if self.kind == "spin" else (0, 1)
        if values.size and (values.min() < low or values.max() > high):
            raise InputError(f"field of kind {self.kind!r}: values must lie in {low}..{high}")
        if self.kind == "spin":
            mask = self.local_mask()
            wrong = (values == 0) if mask is None else (values == 0) & mask
            if wrong.any():
                raise InputError("field of kind 'spin': an active site has the value 0; valid are -1 and +1")

    @property
    def data(self):
        """The padded local array.

        While :attr:`resident` (an :class:`lft.protocols.Resident`) is set, it holds the present values in a form of
        its own; reading ``data`` has it write them first, without messages.  Views taken before an update are old
        after it.
        """
        if self.resident is not None:
            resident, self.resident = self.resident, None
            resident.store()
        return self._data

    @data.setter
    def data(self, values):
        self.resident, self._data = None, values

    @property
    def values(self):
        """View of the local block without its halo, storage order."""
        return self.data[self.domain.interior]

    def flat(self):
        """The padded local array as the loops that sum it read it: one row of int8 or float64 (float32 is copied)."""
        row = self.data.reshape(-1)
        return row.astype(np.float64) if row.dtype == np.float32 else row

    def local_mask(self):
        """Active sites of the local block (broadcastable along time), or None if all sites exist."""
        mask = self.geometry.storage_mask()
        if mask is None:
            return None
        slices = [slice(None) if mask.shape[k] == 1 else s for k, s in enumerate(self.domain.slices)]
        return mask[tuple(slices)]

    def exchange(self):
        """Fill the halo from the neighbors."""
        self.domain.exchange(self.data)

    def array(self):
        """The global configuration in the user's axis order on rank 0, None on the others."""
        whole = self.domain.gather(self.values)
        return None if whole is None else self.geometry.from_storage(whole)

    def copy(self):
        """An independent field with the same values."""
        other = Field(self.geometry, self.kind, self.domain, self.data.dtype)
        other.data[...] = self.data
        return other

    def __repr__(self):
        return f"Field({self.geometry!r}, kind={self.kind!r}, domain={self.domain!r})"
