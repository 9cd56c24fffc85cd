"""Which compiled loops run an (action, updater) pair: the generic ones, or a faster specialization.

An implementation samples the same distribution as the generic loops; where it draws its own random numbers the chain is
another one, so its name goes into the archive and ``lft resume`` insists on it.  The choice depends on action, updater
and lattice alone, never on the number of ranks or the processor.

Loops with a packed copy of their own may offer more: ``update`` and ``store`` (the two halves of ``advance``),
``weights`` and ``sums`` (the action from integers), ``exchange`` (two copies trade places).  Tempering then moves no
data.
"""

from __future__ import annotations

import math
import time

import numpy as np

from lft import threads
from lft.bits import IsingBits
from lft.bits_line import IsingLine
from lft.cached import CachedFields
from lft.errors import InputError
from lft.protocols import Info, State
from lft.sparse import ChainBits, Colored, Lanes
from lft.sparse import supports as supports_chains
from lft.updaters import HMC, HeatBath, Metropolis
from lft.wavefront import Phi4Waves

AUTO, GENERIC = "auto", "generic"
KERNELS = (AUTO, GENERIC)
"""Values of ``[update] kernel``."""

CALL_SITES = 2**28
"""Site updates of one call of a compiled loop over sweeps: an interrupt is answered after it, within 0.1 s or so."""


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
        kind = IsingLine if len(phi.geometry.shape) == 1 else IsingBits
        self.action, self.bits = action, kind(action, phi, updater.name)
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
        most = max(1, CALL_SITES // math.prod(state.phi.domain.local_shape))
        for t in range(state.t, state.t + n, most):
            sites, changed = self.bits.sweep(t, key.word, min(most, state.t + n - t))
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


class BlockedPhi4:
    """HMC of nearest-neighbor phi^4, many integration steps per pass over memory (``lft.wavefront``).

    The bits are those of the generic loops.  The field is copied before and after a batch of trajectories;
    ``is_untouched`` says that nobody has changed it since the last batch, so that the copy still holds.
    """

    name = "phi4-blocked"

    def __init__(self, action, updater, phi):
        self.waves = Phi4Waves(action, phi, updater, n_threads=threads.count())
        self.n_sites = phi.values.size
        self._is_loaded = False

    @staticmethod
    def supports(action, updater, phi):
        """Whether these loops can run the pair on this field."""
        return type(updater) is HMC and Phi4Waves.supports(action, phi)

    def advance(self, state, key, n, is_untouched=False):
        """``n`` trajectories; returns the state and the counts of all of them."""
        started = time.perf_counter()
        if not (is_untouched and self._is_loaded):
            self.waves.load()
            self._is_loaded = True
        accepted, dH = 0, 0.0
        for t in range(state.t, state.t + n):
            is_accepted, dH = self.waves.trajectory(t, key)
            accepted += is_accepted
        self.waves.store()
        counts = n * self.n_sites, accepted * self.n_sites
        return State(state.phi, state.t + n), Info(*counts, dH, time.perf_counter() - started)

    def close(self):
        """Free the persistent requests of the deep halo."""
        self.waves.domain.close()


class Cached:
    """Metropolis and heat bath of :class:`Pairwise` and :class:`Neural` with fields in fixed point (``lft.cached``).

    Works on the field in place.  How a sweep is organized may differ from batch to batch and from rank to rank: the
    chain is the same.
    """

    name = "neural-cached"

    def __init__(self, action, updater, phi):
        self.cached = CachedFields(action, phi, updater.name)
        self._is_loaded = False

    @classmethod
    def supports(cls, action, updater, phi):
        """Whether these loops can run the pair on this field."""
        is_known = type(updater) in (Metropolis, HeatBath) and cls.name == f"{action.name}-cached"
        return is_known and CachedFields.supports(action, phi, updater.name)

    def advance(self, state, key, n, is_untouched=False):
        """``n`` updates; returns the state and the counts of all of them."""
        started = time.perf_counter()
        if not (is_untouched and self._is_loaded):
            self.cached.load()
            self._is_loaded = True
        proposed = accepted = 0
        for t in range(state.t, state.t + n):
            sites, changed = self.cached.sweep(t, key.word)
            proposed, accepted = proposed + sites, accepted + changed
        return State(state.phi, state.t + n), Info(proposed, accepted, 0.0, time.perf_counter() - started)

    def close(self):
        """Nothing is held beside the field's own domain."""


class CachedPairwise(Cached):
    """The same, by the name of the action."""

    name = "pairwise-cached"


class _SparseChains:
    """Independent chains of one sparse graph (``lft.sparse``); the packed copy is resident in the field."""

    actions = ("pairwise", "neural")
    kind = None

    def __init__(self, action, updater, phi):
        self.chains = self.kind(action, phi, updater.name)
        self._is_loaded = False

    @classmethod
    def supports(cls, action, updater, phi):
        """Whether these loops can run the pair on this field, and are the fastest of the three."""
        return type(updater) in (Metropolis, HeatBath) and supports_chains(cls.kind, action, phi, updater.name)

    def advance(self, state, key, n, is_untouched=False):
        """``n`` updates; returns the state and the counts of all of them."""
        started = time.perf_counter()
        if state.phi.resident is not self.chains and not (is_untouched and self._is_loaded):
            self.chains.load()
            self._is_loaded = True
        proposed = accepted = 0
        for t in range(state.t, state.t + n):
            sites, changed = self.chains.sweep(t, key.word)
            proposed, accepted = proposed + sites, accepted + changed
        state.phi.resident = self.chains
        return State(state.phi, state.t + n), Info(proposed, accepted, 0.0, time.perf_counter() - started)

    def close(self):
        """Nothing is held beside the packed copy."""


class SparseBits(_SparseChains):
    """Many chains with couplings +-K, one bit each."""

    name, kind = "pairwise-bits", ChainBits


class SparseLanes(_SparseChains):
    """Many chains with any couplings, 64 of a unit together."""

    name, kind = "pairwise-lanes", Lanes


class SparseColored(_SparseChains):
    """Few chains with any couplings, a color of the graph at a time."""

    name, kind = "pairwise-colored", Colored


SPECIALIZED = (BitSliced, BlockedPhi4, SparseBits, SparseLanes, SparseColored, Cached, CachedPairwise)
"""In the order of choice: a sparse graph without lags runs on its own kernels, any other on cached fields."""


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
    is_single = phi.data.dtype == np.float32
    if kernel in (GENERIC, generic.name) and not is_single:
        return generic
    for candidate in SPECIALIZED:
        if kernel in (AUTO, candidate.name) and candidate.supports(action, updater, phi):
            return candidate(action, updater, phi)
    if is_single:
        fast = ", ".join(c.name for c in SPECIALIZED if c.name.startswith(action.name))
        raise InputError(
            f"kernel {kernel!r} does not run {action.name} with {updater.name} here on float32: valid is {fast} "
            'with update "hmc" and bonds of nearest neighbors; else precision = "float64"'
        )
    if kernel == AUTO:
        return generic
    names = ", ".join([*KERNELS, generic.name, *(c.name for c in SPECIALIZED)])
    raise InputError(f"kernel {kernel!r} does not run {action.name} with {updater.name} here: known are {names}")


def names(action_name):
    """Names of the implementations an action may run on, the fastest first."""
    special = [c.name for c in SPECIALIZED if action_name in getattr(c, "actions", (c.name.split("-")[0],))]
    return [*special, f"generic-{action_name}"]
