"""Random numbers as a pure function of where they are used.

    value = f(seed, replica, t, site, stream, draw)

Nothing is stored and nothing is checkpointed but ``t``; the same number is drawn on any number of ranks and after
any restart.  The block generator is Philox4x32-10 (Salmon, Moraes, Dror, Shaw, *Parallel random numbers: as easy as
1, 2, 3*, SC11, 2011) with the counter ``[site 64 | t 48 | stream 8 | draw 8]``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

from lft._kernels import noise
from lft.errors import InputError

GLOBAL_SITE = 2**64 - 1
"""Site of a decision that is taken once for the whole lattice: every rank draws the same number."""


class Stream(IntEnum):
    """Why a number is drawn.  Two uses never share a stream; ids from 200 on belong to third-party actions."""

    START = 0  # the initial configuration
    METROPOLIS = 1  # proposal (second uniform) and acceptance (first) of a single-site update
    HEATBATH = 2  # the new value of a site given its neighbors
    MOMENTUM = 3  # Gaussian momenta of a trajectory
    ACCEPT = 4  # accept or reject a trajectory
    BLOCKING = 5  # fair ties of a majority rule
    SYNTHETIC = 6  # couplings of a made-up example
    CLUSTER = 7  # bonds of clusters, to neighbors and to the ghost spin
    CLUSTER_FLIP = 8  # which clusters flip
    CLUSTER_SEED = 9  # where a single cluster begins
    OVERRELAX = 10  # acceptance of a reflection
    SWAP = 11  # exchange of two neighboring temperatures; the site is the number of the pair
    SHUFFLE = 12  # order of the bins of one unit in a shuffled surrogate
    SHIFT = 13  # circular shift of one unit
    SURROGATE = 14  # spikes of surrogate units (draw 0) and their latent inputs (draw 1)
    SUBSET = 15  # random halves of the units (draw 0), random pairs (draw 1)
    MEANFIELD_INPUT = 16  # Gaussian input paths of a mean-field theory; the site is the number of the path
    MEANFIELD_NEURON = 17  # a neuron's own noise and initial state in a mean-field theory or its network
    MEANFIELD_STATIC = 18  # the frozen part of the input, shared by a pair of paths
    MEANFIELD_WEIGHTS = 19  # weights and drive of the finite network that a mean-field theory describes
    MEANFIELD_EVENT = 20  # input from outside and events of such a network
    PROBE = 21  # random signs that estimate the diagonal of a matrix; the site is the parameter
    RESAMPLE = 22  # blocks of a bootstrap sample; the replica is the sample
    POSTERIOR = 23  # momenta (draw 0), acceptance and step lengths (draw 1) of a posterior chain, which is the replica
    NULL_SHIFT = 24  # circular shifts of units in surrogates of a fit; the site is the unit, the replica the surrogate
    CAUSAL = 25  # spikes of a causal chain; the time word is the number of the stretch, the site its bin and unit
    CAUSAL_PAST = 26  # the same before the stretch, until the start is forgotten
    GIBBS_START = 28  # first state of the chains of a fitted Gibbs model
    GIBBS_SWEEP = 29  # heat bath of these chains; the site holds the word of 64 chains, the bin and the unit
    GIBBS_RESAMPLE = 30  # blocks drawn with replacement behind errors of normalizations and entropies
    CHECK_SUBSET = 32  # pairs (draw 0), triples (draw 1) that enter a check
    CHECK_LABELS = 33  # which stretches of a check are called recorded
    CHECK_CONTROL = 34  # circular shift of one unit in the control of a specific heat
    MEANFIELD_RESPONSE = 36  # white noise added to the input of neurons whose response is measured
    MEANFIELD_SHARED = 39  # noise that a whole population of such a network shares; the site is the number of the noise
    MEANFIELD_LOADING = 40  # vectors of its weights of low rank; the site is the neuron, the draw the rank
    MEANFIELD_PAIR = 41  # its partially symmetric weights; the site is the pair of neurons
    MEANFIELD_PARTNER = 51  # partners whose spike trains drive a sampled neuron (the site), and shifts of these trains
    MEANFIELD_TRAIN = 52  # Poisson trains from outside to such a neuron; the site is the number of the spike
    PERCOLATION = 59  # which sites of a slice become active; t is the slice, the replica the word of 64 replicas


@dataclass(frozen=True)
class Key:
    """64-bit key of one replica: the first two words of Philox at counter ``(seed, replica)``.

    Seeds are never added or multiplied: neighboring seeds and replicas give unrelated keys.

    Parameters
    ----------
    seed : int
        Any unsigned 64-bit integer.
    replica : int, optional
        Number of the replica, an unsigned 64-bit integer.

    Examples
    --------
    >>> from lft.rng import Key, Stream
    >>> key = Key(7)
    >>> key.uniform(t=3, stream=Stream.ACCEPT) == Key(7).uniform(t=3, stream=Stream.ACCEPT)
    True
    >>> 0 < key.uniform(t=3, stream=Stream.ACCEPT) < 1
    True
    """

    seed: int
    replica: int = 0
    word: int = field(init=False, repr=False)

    def __post_init__(self):
        for name in ("seed", "replica"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**64:
                raise InputError(f"{name} = {value!r}: valid is an integer from 0 to 2^64 - 1")
        words = noise.philox4x32(
            (self.seed & 0xFFFFFFFF, self.seed >> 32, self.replica & 0xFFFFFFFF, self.replica >> 32),
            (0x6C667400, 0x6B657900),
        )
        object.__setattr__(self, "word", words[0] | words[1] << 32)

    def fill(self, kind, site0, stride, n, t, stream, draw=0):
        """Two arrays of ``n`` numbers (``uniform``, ``exponential``, ``logistic``, ``normal``) for equally spaced
        sites."""
        return noise.fill(kind, site0, stride, n, t, int(stream), draw, self.word)

    def uniform(self, t, stream, draw=0, site=GLOBAL_SITE):
        """One uniform in (0, 1)."""
        return float(noise.fill("uniform", site, 0, 1, t, int(stream), draw, self.word)[0][0])

    def exponential(self, t, stream, draw=0, site=GLOBAL_SITE):
        """One exponential variate, -log of :meth:`uniform`: accept a change when ``dS`` is below it."""
        return float(noise.fill("exponential", site, 0, 1, t, int(stream), draw, self.word)[0][0])
