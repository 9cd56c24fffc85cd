"""Which compiled loops run an (action, updater) pair: the generic ones, or a faster specialization.

An implementation samples the same distribution as the generic loops; where it draws its own random numbers the chain is
another one, so its name goes into the archive and ``lft resume`` insists on it.  The choice depends on action, updater
and lattice alone, never on the number of ranks or the processor.

Loops with a packed copy of their own may offer more: ``update`` and ``store`` (the two halves of ``advance``),
``weights`` and ``sums`` (the action from integers), ``exchange`` (two copies trade places).  Tempering then moves no
data.
"""

from __future__ import annotations

import time

from lft.bits import IsingBits
from lft.errors import InputError
from lft.protocols import Info, State
from lft.updaters import HeatBath, Metropolis

AUTO, GENERIC = "auto", "generic"
KERNELS = (AUTO, GENERIC)
"""Values of ``[update] kernel``."""


class Generic:
    """The updater's own step, over and over."""

    def __init__(self, action, updater, phi):
        self.action, self.updater = action, updater
        self.name = f"generic-{action.name}"

    def advance(self, state, key, n, is_untouched=False):
        """``n`` updates; returns the state and the counts of all of them."""
        proposed = accepted = 0
        seconds, dH = 0.0, 0.0
        for _ in range(n):
            state, info = self.updater.step(self.action, state, key)
            proposed, accepted = proposed + info.proposed, accepted + info.accepted
            seconds, dH = seconds + info.seconds, info.dH
        return state, Info(proposed, accepted, dH, seconds)

    def close(self):
        """Nothing is held beside the field's own domain."""


class BitSliced:
    """Metropolis and heat bath of nearest-neighbor Ising spins, one bit per site (``lft.bits``).

    The packed copy is resident in the field (:class:`lft.protocols.Resident`): it is unpacked when somebody reads
    ``phi.data``, and packed again by the next update unless ``is_untouched`` says that nobody has changed it.
    """

    name = "ising-bits"

    def __init__(self, action, updater, phi):
        self.action, self.bits = action, IsingBits(action, phi, updater.name)
        self._is_loaded = False

    @staticmethod
    def supports(action, updater, phi):
        """Whether these loops can run the pair on this field."""
        return type(updater) in (Metropolis, HeatBath) and IsingBits.supports(action, phi, updater.name)

    def advance(self, state, key, n, is_untouched=False):
        """``n`` updates; returns the state and the counts of all of them."""
        started = time.perf_counter()
        state, info = self.update(state, key, n, is_untouched)
        if not self.bits.can_reside:
            self.bits.store()
        return state, info._replace(seconds=time.perf_counter() - started)

    def update(self, state, key, n, is_untouched=False):
        """``n`` updates of the packed copy alone; :meth:`store` brings the field up to date."""
        started = time.perf_counter()
        if state.phi.resident is not self.bits and not (is_untouched and self._is_loaded):
            self.bits.load()
            self._is_loaded = True
        proposed = accepted = 0
        for t in range(state.t, state.t + n):
            sites, changed = self.bits.sweep(t, key.word)
            proposed, accepted = proposed + sites, accepted + changed
        if self.bits.can_reside:
            state.phi.resident = self.bits
        return State(state.phi, state.t + n), Info(proposed, accepted, 0.0, time.perf_counter() - started)

    def store(self):
        """Bring the field up to date with the packed copy (collective if its halo is wider than one site)."""
        if self.bits.can_reside:
            self.bits.phi.data  # noqa: B018  reading it unpacks what is resident
        else:
            self.bits.store()

    def weights(self, couplings):
        """Coefficients of :meth:`sums` in the sum of ``g O`` over some of the action's couplings."""
        geometry = self.bits.phi.geometry
        bonds = self.action.with_couplings(K=couplings["K"]).bond_couplings(geometry) if "K" in couplings else {}
        weights = [-bonds.get(d, 0.0) if geometry.joins(d) else 0.0 for d in geometry.unit_displacements()]
        return [*weights, -couplings.get("h", 0.0)]

    def sums(self):
        """Sum over bonds along each axis, and over spins, of the packed copy: integers, global (collective)."""
        bonds, spins = self.bits.measure()
        return self.bits.phi.domain.sum_int([*bonds, spins]).tolist()

    def exchange(self, other):
        """Trade configurations with the same loops at other couplings: nothing is copied, both copies stay valid."""
        self.bits.exchange(other.bits)

    def close(self):
        """Free the persistent requests of the packed rows."""
        self.bits.domain.close()


SPECIALIZED = (BitSliced,)


def choose(action, updater, phi, kernel=AUTO):
    """The implementation of a pair on a field.

    Parameters
    ----------
    kernel : str
        ``"auto"``: the fastest that supports it; ``"generic"``; or the name of one, as an archive records it.

    Raises
    ------
    InputError
        No implementation of this name supports the pair.
    """
    generic = Generic(action, updater, phi)
    if kernel in (GENERIC, generic.name):
        return generic
    for candidate in SPECIALIZED:
        if kernel in (AUTO, candidate.name) and candidate.supports(action, updater, phi):
            return candidate(action, updater, phi)
    if kernel == AUTO:
        return generic
    names = ", ".join([*KERNELS, generic.name, *(c.name for c in SPECIALIZED)])
    raise InputError(f"kernel {kernel!r} does not run {action.name} with {updater.name} here: known are {names}")


def names(action_name):
    """Names of the implementations an action may run on, the fastest first."""
    return [*(c.name for c in SPECIALIZED if c.name.startswith(action_name)), f"generic-{action_name}"]
