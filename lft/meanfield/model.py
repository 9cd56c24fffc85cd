"""The network that a mean-field theory describes: populations, connections, drive, and the weight statistics.

    h_i(t) = I_a(t) + xi_i(t) + sum_b sum_j W_ij (kappa_ab * y_j)(t - d_ab),      i in a, j in b

At leading order in the size only these statistics of the weights enter, per connection (post a, pre b):

    M  = sum_{j in b} E[W_ij]        times the mean m_b of the output
    V2 = part of sum_j Var[W_ij]     times the second moment   Q_b(t, s) = <y(t) y(s)>
    Vc = part of sum_j Var[W_ij]     times the covariance      Q_b(t, s) - m_b(t) m_b(s)

so that the input of a neuron is Gaussian with ``mu_a = I_a + sum M kappa * m_b`` and
``C_a = sum [V2 Q_b + Vc (Q_b - m_b m_b)]`` filtered by kappa on both sides, plus the external covariance.  Which of the
two a variance multiplies: independent weights add up a random sum of the outputs themselves (second moment); with a
fixed in-degree the sum of the weights is the same for all neurons, so that a constant output gives no variance
(covariance).  Standard results of dynamic mean-field theory; the row of fixed in-degree with random weights on top is
a derivation of this project.

Everything here is data: what a weight ensemble *is*.  Solvers read :func:`statistics`, direct simulations draw.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass, field

from lft.errors import InputError
from lft.meanfield.structured import LowRank, Profile, Sites

MODES = ("stationary", "two-time")
METHODS = ("auto", "sampling", "closed", "march")
INPUTS = ("gaussian", "shot")


@dataclass(frozen=True)
class WeightStatistics:
    """``M``, ``V2`` (times the second moment) and ``Vc`` (times the covariance) of one connection."""

    mean: float
    second: float
    covariance: float

    @property
    def variance(self):
        """V = V2 + Vc, the variance of the summed weights of the connection."""
        return self.second + self.covariance

    def scaled(self, factor):
        """The statistics of ``factor * W``."""
        return WeightStatistics(self.mean * factor, self.second * factor**2, self.covariance * factor**2)


@dataclass(frozen=True)
class Gaussian:
    """Dense independent weights: ``mean = N E[W]``, ``std = sqrt(N Var W)`` (the g of the rate network)."""

    mean: float
    std: float
    name = "gaussian"

    def statistics(self, n_pre):
        return WeightStatistics(self.mean, self.std**2, 0.0)

    def third_cumulant(self, n_pre, moments):
        """0: the sum of Gaussian weights is Gaussian, whatever the outputs."""
        return 0.0

    @property
    def signs(self):
        """Signs that a weight can have."""
        return {-1, 1} if self.std else {_sign(self.mean)}


@dataclass(frozen=True)
class Bernoulli:
    """Each of the N weights is there with ``probability``; it has the mean ``weight`` and the s.d. ``weight_std``.

    ``M = N p J``, ``V2 = N [p (1 - p) J^2 + p s^2]``.
    """

    probability: float
    weight: float
    weight_std: float = 0.0
    name = "bernoulli"

    def statistics(self, n_pre):
        if n_pre is None:
            raise InputError("weights = 'bernoulli' needs the size of the presynaptic population: give it a size")
        p, k = self.probability, self.probability * n_pre
        return WeightStatistics(k * self.weight, k * ((1 - p) * self.weight**2 + self.weight_std**2), 0.0)

    def third_cumulant(self, n_pre, moments):
        """Of ``sum_j W_ij y_j`` over i: ``N kappa_3(W) <y^3>``; ``moments``: (<y>, <y^2>, <y^3>) at one time."""
        first = self.probability * self.weight
        second = self.probability * (self.weight**2 + self.weight_std**2)
        third = self.probability * (self.weight**3 + 3 * self.weight * self.weight_std**2)
        return n_pre * (third - 3 * first * second + 2 * first**3) * moments[2]

    @property
    def signs(self):
        return {-1, 1} if self.weight_std else {_sign(self.weight)}


@dataclass(frozen=True)
class FixedIndegree:
    """Exactly ``indegree`` partners, drawn at random; weights of mean ``weight`` and s.d. ``weight_std``.

    ``M = K J``, ``Vc = K (1 - K/N) J^2``, ``V2 = K s^2``; without a size of the population K/N counts as 0.
    """

    indegree: int
    weight: float
    weight_std: float = 0.0
    name = "fixed-indegree"

    def statistics(self, n_pre):
        k = self.indegree
        if n_pre is not None and k > n_pre:
            raise InputError(f"indegree = {k}: valid is an integer from 1 to {n_pre}, the size of the population")
        there = 1.0 - (k / n_pre if n_pre is not None else 0.0)
        return WeightStatistics(k * self.weight, k * self.weight_std**2, k * there * self.weight**2)

    def third_cumulant(self, n_pre, moments):
        """Of ``sum_j W_ij y_j`` over i, drawn without replacement; ``moments``: (<y>, <y^2>, <y^3>) at one time.

            kappa_3 = J^3 K (1 - K/N) (1 - 2 K/N) <(y - m)^3> + 3 J s^2 K (1 - K/N) Cov(y, y^2)
        """
        f = self.indegree / n_pre if n_pre is not None else 0.0
        m, square, cube = moments
        central = cube - 3 * m * square + 2 * m**3
        mixed = 3 * self.weight * self.weight_std**2 * (cube - m * square)
        return self.indegree * (1 - f) * (self.weight**3 * (1 - 2 * f) * central + mixed)

    @property
    def signs(self):
        return {-1, 1} if self.weight_std else {_sign(self.weight)}


ENSEMBLES = {e.name: e for e in (Gaussian, Bernoulli, FixedIndegree, LowRank)}


def _finite(what, numbers):
    """Raise InputError where numbers that follow from the parameters are too large to be numbers."""
    try:
        is_finite = all(math.isfinite(x) for x in numbers())
    except OverflowError:
        is_finite = False
    if not is_finite:
        raise InputError(f"{what}: mean or variance of its input overflow; valid are smaller numbers")


def _sign(x):
    return int(math.copysign(1, x)) if x else 0


@dataclass(frozen=True)
class Poisson:
    """External spike trains: ``indegree`` independent Poisson processes of ``rate`` (Hz) and ``weight`` per neuron.

    As a Gaussian input: mean ``K r J`` and white noise of intensity ``K r J^2``.
    """

    indegree: int
    rate: float
    weight: float

    @property
    def mean(self):
        return self.indegree * self.rate * self.weight

    @property
    def intensity(self):
        """D of ``<xi(t) xi(s)> = D delta(t - s)``."""
        return self.indegree * self.rate * self.weight**2


@dataclass(frozen=True)
class InputNoise:
    """Gaussian noise in the summed input, private to each neuron.

    ``tau = 0``: white, ``<xi(t) xi(s)> = intensity delta(t - s)``; else
    ``intensity/(2 tau) exp(-|t - s|/tau)``, which has the same integral.
    """

    intensity: float
    tau: float = 0.0


@dataclass(frozen=True)
class Population:
    """Neurons that are alike: the same model, the same statistics of connections and drive.

    Parameters
    ----------
    name : str
    neuron : object
        A neuron model (:mod:`lft.meanfield.neurons.registry`): ``init(M, rng)`` and ``step(state, h, k) -> y``.
    size : int, optional
        Number of neurons N; used by sparse ensembles, finite-size results and direct simulations.
    input : float, or tuple of (time, value), or callable, optional
        Constant drive; drive that takes each value from its time on (0 before the first); or a function of time in
        the model's unit.  In units of the summed input h.
    external : tuple of Poisson, optional
    noise : InputNoise, optional
        Private Gaussian noise in the summed input.
    dale : str, optional
        ``"excitatory"`` or ``"inhibitory"``: every weight from this population must have that sign.
    sites : Sites, optional
        Periodic lattice on which the neurons sit, and input that depends on the site.
    """

    name: str
    neuron: object
    size: int | None = None
    input: float | tuple | Callable = 0.0
    external: tuple = ()
    noise: InputNoise | None = None
    dale: str | None = None
    sites: Sites | None = None

    @property
    def weight_scale(self):
        """What turns a weight into summed input: ``tau`` for weights given as jumps of a potential, else 1."""
        return float(getattr(self.neuron, "weight_scale", 1.0))

    @property
    def is_driven_in_time(self):
        """True if the drive depends on time."""
        return not isinstance(self.input, int | float)

    def drive(self, t):
        """External mean input at time t: drive plus the mean of the Poisson trains."""
        poisson = self.weight_scale * sum(p.mean for p in self.external)
        if callable(self.input):
            return float(self.input(t)) + poisson
        if isinstance(self.input, tuple):
            return next((v for start, v in reversed(self.input) if t >= start - 1e-12), 0.0) + poisson
        return float(self.input) + poisson

    @property
    def white(self):
        """Intensity of the external white noise, Poisson trains included."""
        own = self.noise.intensity if self.noise is not None and self.noise.tau == 0 else 0.0
        return own + self.weight_scale**2 * sum(p.intensity for p in self.external)

    @property
    def colored(self):
        """The external noise that is not white, or None."""
        return self.noise if self.noise is not None and self.noise.tau > 0 else None


@dataclass(frozen=True)
class Connection:
    """Weights from one population to another.

    Parameters
    ----------
    source, target : str
        Names of the pre- and the postsynaptic population.
    weights : Gaussian, Bernoulli, FixedIndegree or LowRank
    delay : float, optional
        Time from an output to its effect, in the model's unit; rounded to the grid of the solver.
    synapse : float, optional
        Time constant of ``kappa(t) = exp(-t/tau)/tau``; 0 is kappa = delta.
    symmetry : float, optional
        eta of ``E[W_ij W_ji] = eta Var W``, -1 to 1; Gaussian weights within one population.
    profile : Profile, optional
        Fall with distance; Gaussian weights between populations on the same lattice.
    """

    source: str
    target: str
    weights: Gaussian | Bernoulli | FixedIndegree | LowRank
    delay: float = 0.0
    synapse: float = 0.0
    symmetry: float = 0.0
    profile: Profile | None = None


@dataclass(frozen=True)
class Solve:
    """How to solve: every value of ``[solve]``, with its default.

    Parameters
    ----------
    mode : str
        ``"stationary"`` or ``"two-time"``.
    dt, duration : float
        Grid step; two-time: the interval that is solved; stationary: the window in which a path is measured.
    samples : int
        Paths per sweep and population, all replicas together.
    seed : int
    method : str
        ``"auto"``: a closed form where every neuron has one, else sampling; ``"sampling"``, ``"closed"``, and for
        two-time ``"march"``.
    replicas : int
        Independent solutions, whose scatter is the error; >= 4.
    sweeps : int
        Most sweeps of a sampling solver, or iterations of a closed one.
    tolerance : float
        Relative standard error of the output covariance at which sampling stops; 0: use all sweeps.
    damping : float
        Weight of the old state while the iteration settles, 0 <= damping < 1.
    warmup : float, optional
        Stationary: time before the window; default: found from the neuron's time constant and the window.
    max_lag : float, optional
        Stationary: longest lag that is solved for; default half the window.
    input : str
        Stationary sampling: ``"gaussian"`` paths, or ``"shot"``, the spike trains of random partners
        (:mod:`lft.meanfield.saddle.shots`), for few or strong synapses.
    """

    mode: str
    dt: float
    duration: float
    samples: int = 10000
    seed: int = 1
    method: str = "auto"
    replicas: int = 8
    sweeps: int = 60
    tolerance: float = 0.0
    damping: float = 0.0
    warmup: float | None = None
    max_lag: float | None = None
    input: str = "gaussian"

    @property
    def n_steps(self):
        """Grid steps of the duration."""
        return round(self.duration / self.dt)


@dataclass(frozen=True)
class Model:
    """A network: populations, connections and how to solve it.

    Parameters
    ----------
    populations : tuple of Population
    connections : tuple of Connection
    solve : Solve, optional
    text : str, optional
        The TOML text it was read from.
    resolved : dict, optional
        Every value in use, defaults included.
    shared : tuple of SharedNoise, optional

    Raises
    ------
    InputError
        A connection names a population that is not there, breaks Dale's law, or needs a size that is not given.

    Examples
    --------
    >>> from lft.meanfield.model import Connection, Gaussian, Model, Population, Solve
    >>> from lft.meanfield.neurons import Rate
    >>> x = Population("x", Rate(gain="tanh"), size=3200)
    >>> model = Model((x,), (Connection("x", "x", Gaussian(0.0, 1.5)),), Solve("stationary", 0.05, 100.0))
    >>> model.statistics(model.connections[0]).variance
    2.25
    """

    populations: tuple
    connections: tuple
    solve: Solve | None = None
    text: str = ""
    resolved: dict = field(default_factory=dict, compare=False, repr=False)
    shared: tuple = ()

    def __post_init__(self):
        names = [p.name for p in self.populations]
        if not names or len(set(names)) < len(names):
            raise InputError(f"populations {names}: give at least one, each with a name of its own")
        for p in self.populations:
            if not p.name.isprintable() or "/" in p.name or p.name in ("", ".", ".."):
                raise InputError(f"population {p.name!r}: valid is a name of printable characters without '/', as it "
                                 "names a group of the output file")
            _finite(f"population {p.name!r}", lambda p=p: (p.drive(0.0), p.white))
        for number, c in enumerate(self.connections):
            for end, name in (("from", c.source), ("to", c.target)):
                if name not in names:
                    raise InputError(f"connection {number + 1}: {end} = {name!r}: valid are {', '.join(names)}")
            dale = self.population(c.source).dale
            if dale and not c.weights.signs <= {0, 1 if dale == "excitatory" else -1}:
                raise InputError(
                    f"connection {number + 1} from {c.source!r}, which is {dale}: its weights can have the other sign"
                )
            where = f"connection {number + 1} from {c.source!r} to {c.target!r}"
            try:
                _finite(where, lambda c=c: dataclasses.astuple(self.statistics(c)))
            except InputError as error:
                text = str(error)
                raise InputError(text if text.startswith(where) else f"{where}: {text}") from None
            self._check_structure(number + 1, c)
        for p in self.populations:
            if p.sites is not None and p.size is not None and p.size % p.sites.n:
                raise InputError(f"population {p.name!r}: size {p.size} on {p.sites.n} sites; valid is a multiple")
        for noise in self.shared:
            for name, _ in noise.factors:
                if name not in names:
                    raise InputError(f"shared noise to {name!r}: valid are {', '.join(names)}")

    def _check_structure(self, number, c):
        where = f"connection {number} from {c.source!r} to {c.target!r}"
        is_gaussian, is_own = isinstance(c.weights, Gaussian), c.source == c.target
        if not -1 <= c.symmetry <= 1 or (c.symmetry and not (is_gaussian and is_own)):
            raise InputError(f"{where}: symmetry = {c.symmetry!r}; valid is a number from -1 to 1, for gaussian "
                             "weights within one population")
        if isinstance(c.weights, LowRank) and not is_own:
            raise InputError(f"{where}: low-rank weights; valid is a connection of a population with itself")
        if c.profile is not None:
            ends = [self.population(n).sites for n in (c.source, c.target)]
            if not is_gaussian or c.symmetry or None in ends or ends[0].shape != ends[1].shape:
                raise InputError(f"{where}: a profile; valid for gaussian weights without symmetry between populations "
                                 "on the same lattice")

    @property
    def names(self):
        """Names of the populations, in order."""
        return tuple(p.name for p in self.populations)

    def population(self, name):
        """The population of that name."""
        return self.populations[self.names.index(name)]

    def index(self, name):
        """Number of the population of that name."""
        return self.names.index(name)

    def into(self, name):
        """Connections that end at a population."""
        return tuple(c for c in self.connections if c.target == name)

    def statistics(self, connection):
        """:class:`WeightStatistics` of a connection, in units of summed input per unit of output."""
        source, target = self.population(connection.source), self.population(connection.target)
        return connection.weights.statistics(source.size).scaled(target.weight_scale)

    def matrices(self):
        """``M_ab`` and ``V_ab`` (post, pre) as nested lists, connections between the same populations added up.

        The spectral radius of V (with slopes) and of M decide over stability; a solver goes by connections, whose
        delays and filters differ.
        """
        n = len(self.populations)
        mean, variance = [[0.0] * n for _ in range(n)], [[0.0] * n for _ in range(n)]
        for c in self.connections:
            a, b, s = self.index(c.target), self.index(c.source), self.statistics(c)
            mean[a][b] += s.mean
            variance[a][b] += s.variance
        return mean, variance
