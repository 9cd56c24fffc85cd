"""Stationary solution by sampling: mean m, frozen variance e = q - m^2 of the outputs, autocovariance A(lag).

Repeat: the spectrum of the input from those of the outputs,

    mu_a = I_a + sum_b M_ab m_b,     frozen variance = sum_b V2 (m_b^2 + e_b) + Vc e_b
    S_a(f) = sum_b [V_ab |kappa(f)|^2 + G_ab(f)] S_b(f) + external

fresh paths by circulant embedding with every frequency moment-matched, M neurons on them, and m, q, A from what they
do; average.  Delays do not matter: independent weights leave no phase.  G, of order 1/N, is what a finite network adds
by its own fluctuations; it is known for LIF neurons with delta synapses
(:func:`lft.meanfield.fluctuations.integrate_fire.population_noise`).

The frozen part is told from slow fluctuations by pairs: two neurons share their frozen offset (quantiles of the normal
distribution, not draws) and nothing else, so that ``e = <ybar_1 ybar_2> - m^2`` however short the window, and
half the difference of the two has the covariance A alone.  Where e, over the last sweeps (``Excess``), is within three
of its standard errors of 0, it counts as 0: its noise would drive a frozen input that is not there.  Where it does not,
:mod:`lft.meanfield.saddle.frozen` leads it to its fixed point, to which sweeps alone would creep.

A is estimated without bias (each lag by its own number of pairs of times) up to ``max_lag`` and tapered to 0 over the
upper half of the lags for the embedding; what is negative in the spectrum then is set to 0 and its share is reported.
"""

from __future__ import annotations

import numpy as np

from lft.meanfield.saddle import shots
from lft.meanfield.saddle.averaging import average
from lft.meanfield.saddle.draws import Draws, sweep_key
from lft.meanfield.saddle.frozen import (
    ALONE,
    DAMPED,
    LEAST_PAIRS,
    NEAR,
    STEPS,
    TRACK_SWEEPS,
    Excess,
    Feedback,
    controlled,
)
from lft.meanfield.saddle.paths import circulant_paths, frozen_offsets
from lft.meanfield.saddle.two_time import BATCHES, System, combine, replica_domain, samples_of
from lft.rng import Stream

CHUNK = 256
WARMUP = 10.0
"""Warm-up in units of the neuron's timescale."""
SEED = 0.01
"""Frozen variance at the start, relative to A(0): it grows where a state without frozen part is unstable."""
TRACKS = 1 << 20
"""Number of the first sweep of tracks with held frozen variances: other random numbers than those of all sweeps."""
MEMORIES = (2.0, 8.0)
"""Decay of the autocovariance at the start in units of the neuron's timescale: where frozen and slow fluctuations do
the same to a neuron its tail settles slowly, and from below alone it would take the frozen variance to one side.
Damping would keep a long one: damped loops have the first alone."""
PARTS = 4
"""Arrays per population in the state: m, e, A, (mean and variance of the state variable)."""


class Grid:
    """Steps of warm-up, window and lags, and the period of the embedding."""

    def __init__(self, model, runners):
        from scipy.fft import next_fast_len

        solve = model.solve
        known = [float(r.neuron.timescale) for r in runners if hasattr(r.neuron, "timescale")]
        # a neuron that does not say how long it remembers: as long a warm-up as the window
        found = WARMUP * max(known, default=0.0)
        found = found if len(known) == len(runners) else max(found, solve.duration)
        self.dt = solve.dt
        self.window = solve.n_steps
        self.n_lags = (self.window // 2 if solve.max_lag is None else round(solve.max_lag / solve.dt)) + 1
        warmup = found if solve.warmup is None else solve.warmup
        self.warmup = int(np.ceil(warmup / solve.dt))
        self.steps = self.warmup + self.window
        self.period = 2 * next_fast_len((self.steps + self.n_lags + 1) // 2 + 1, real=True)
        self.lags = solve.dt * np.arange(self.n_lags)
        self.omega = 2 * np.pi * np.arange(self.period // 2 + 1) / self.period
        x = np.clip(2.0 * np.arange(self.n_lags) / max(self.n_lags - 1, 1) - 1.0, 0.0, 1.0)
        self.taper = np.cos(0.5 * np.pi * x) ** 2

    def spectrum(self, lags):
        """Power spectrum of a tapered autocovariance on the period."""
        half = np.zeros(self.period // 2 + 1)
        half[: self.n_lags] = lags * self.taper
        return np.fft.rfft(np.concatenate([half, half[-2:0:-1]])).real


class Inputs:
    """What drives each population, given the outputs of all; ``fed_back``: G of the module's equation (F, P, P)."""

    def __init__(self, system, grid, fed_back=None):
        self.system, self.grid, self.fed_back = system, grid, fed_back

    def __call__(self, a, state):
        """(mu, frozen variance, spectrum, white intensity, share of negative power) of population a."""
        system, grid = self.system, self.grid
        p = system.model.populations[a]
        mu, frozen, white = p.drive(0.0), 0.0, p.white
        power = np.full(len(grid.omega), p.white / grid.dt)
        if p.colored is not None:
            covariance = p.colored.intensity / (2 * p.colored.tau) * np.exp(-grid.lags / p.colored.tau)
            power += grid.spectrum(covariance)
        for link in system.links:
            if link.target != a:
                continue
            m, e, lags, _ = state[PARTS * link.source : PARTS * link.source + PARTS]
            s = link.statistics
            mu += s.mean * m[0]
            frozen += s.second * (m[0] ** 2 + e[0]) + s.covariance * e[0]
            if s.variance:
                power += s.variance * link.kernel_power(grid.omega) * grid.spectrum(lags)
            if system.point[link.source] and not link.decay:
                white += s.variance * max(m[0], 0.0)
        if self.fed_back is not None:
            for b in range(len(system.model.populations)):
                power += self.fed_back[:, a, b] * grid.spectrum(state[PARTS * b + 2])
        negative = -power[power < 0].sum() / max(power[power > 0].sum(), 1e-300)
        return mu, max(frozen, 0.0), np.maximum(power, 0.0), white, float(negative)


def autocovariance(y, n_lags):
    """Unbiased autocovariance of zero-mean paths (W, n), averaged over the paths: (n_lags,)."""
    from scipy.fft import irfft, next_fast_len, rfft

    n = len(y)
    size = next_fast_len(n + n_lags, real=True)
    power = np.zeros(size // 2 + 1)
    for start in range(0, y.shape[1], CHUNK):
        spectrum = rfft(y[:, start : start + CHUNK], size, axis=0)
        power += np.einsum("ij,ij->i", spectrum.real, spectrum.real) + np.einsum(
            "ij,ij->i", spectrum.imag, spectrum.imag)
    return irfft(power / y.shape[1], size)[:n_lags] / (n - np.arange(n_lags))


def measure(first, second, has_frozen, n_lags, stands_out=None, slow=None):
    """(m, e, A) and the squared noise of each from paired paths (W, n) that share their frozen input.

    Parameters
    ----------
    first, second : ndarray (W, n)
    has_frozen : bool
        Whether there is a frozen input.
    n_lags : int
    stands_out : callable, optional
        (frozen variance, its standard error) -> whether it counts; default: an :class:`Excess` that knows no more.
    slow : tuple of ndarray, optional
        (average dynamic input of each neuron (2, n), frozen offset of each pair (n,)): :func:`controlled`.

    Returns
    -------
    values : list of ndarray
    noise2 : list of ndarray
        From batches of pairs.
    """
    n = first.shape[1]
    averages = np.stack([first.mean(axis=0), second.mean(axis=0)])
    if slow is not None:
        averages = controlled(averages, *slow)
    m = averages.mean()
    shared = (averages[0] - m) * (averages[1] - m)
    excess = float(shared.mean())
    error = float(shared.std() / np.sqrt(n))
    is_frozen = (stands_out or Excess().stands_out)(excess, error) and has_frozen
    ms, es, covariances = [], [], []
    # pairs are in the order of their offsets: a batch has every eighth of them
    parts = [slice(b, None, BATCHES) for b in range(BATCHES)]
    for b in parts:
        ms.append(averages[:, b].mean())
        es.append(shared[b].mean())
        if is_frozen:
            covariances.append(0.5 * autocovariance(first[:, b] - second[:, b], n_lags))
        else:
            both = np.concatenate([first[:, b], second[:, b]], axis=1) - first.mean() / 2 - second.mean() / 2
            covariances.append(autocovariance(both, n_lags))
    sizes = np.array([len(range(n)[b]) for b in parts]) / n
    lags = np.tensordot(sizes, np.array(covariances), 1)
    if is_frozen:  # paths that add up to 0 are not independent: what the two of a pair share shows in the mean of all
        mean = 0.5 * (first.mean(axis=1) + second.mean(axis=1))
        lags += autocovariance((mean - mean.mean())[:, None], n_lags) - lags / (2 * n)
    noise2 = [np.array([np.var(ms, ddof=1)]) / BATCHES, np.array([np.var(es, ddof=1)]) / BATCHES,
              np.var(covariances, axis=0, ddof=1) / BATCHES]
    return [np.array([m]), np.array([excess if is_frozen else 0.0]), lags], noise2


class Summary:
    """What residuals are judged by: m, e and A over their sizes; lag 0 apart, where spikes have their delta."""

    def __init__(self):
        self.scales = None

    def set_scales(self, state):
        self.scales = []
        for a in range(0, len(state), PARTS):
            m, e, lags, _ = state[a : a + PARTS]
            size = float(np.sqrt(np.mean(lags[1 : max(len(lags) // 4, 3)] ** 2))) or 1.0
            spread = max(size, float(e[0]))
            self.scales.append((max(abs(float(m[0])), spread**0.5), spread, abs(float(lags[0])) or 1.0, size))

    def __call__(self, state):
        out = []
        for a in range(0, len(state), PARTS):
            m, e, lags, _ = state[a : a + PARTS]
            out += [m, e, lags[:1], lags[1:]]
        self.edges = np.cumsum([0, *(len(b) for b in out[:-1])])
        return self.scaled(out)

    def scaled(self, blocks, power=1):
        scales = [s for four in self.scales for s in four] if self.scales else [1.0] * len(blocks)
        return np.concatenate([b / s**power for b, s in zip(blocks, scales, strict=True)])


class GaussianDrive:
    """Neurons of one replica on Gaussian paths with the spectrum that the outputs of all give."""

    def __init__(self, system, grid, inputs, n_pairs):
        self.system, self.grid, self.inputs, self.n_pairs = system, grid, inputs, n_pairs

    def run(self, a, state, key, push):
        """Outputs (steps + 1, 2 n) of population a, what was observed, whether pairs share a frozen input, and what
        :func:`controlled` takes."""
        mu, frozen, power, white, _ = self.inputs(a, state)
        h = circulant_paths(power, self.grid.steps, key, 2 * self.n_pairs)
        slow, offsets = h[self.grid.warmup :].mean(axis=0).reshape(2, -1), np.zeros(self.n_pairs)
        h += mu
        if push:
            h += push * (abs(mu) + 3.0 * h.std())
        if frozen:
            offsets = frozen_offsets(key, self.n_pairs, Stream.MEANFIELD_STATIC)
            h += np.sqrt(frozen) * np.concatenate([offsets, offsets])
        y, seen = self.system.runners[a].run(h, Draws(key, 2 * self.n_pairs), np.full(self.grid.steps, white))
        return y, seen, frozen > 0, (slow, offsets)


SEGMENTS = 8
"""Parts of the window whose mean outputs are compared."""
EVIDENCE = ("least", "most", "begun", "unseen", "frozen_moved", "residual", "xx", "xr", "rr", *["segment"] * SEGMENTS)
"""What a replica shows of each population while sweeps are averaged: the least and largest mean; the mean with which it
began; the share of sweeps in which the frozen variance did not stand out times the size up to which it would not; by
how much that moved between the halves of these sweeps; the mean residual of the mean, and the sums of squares and
products, each about its average, of the mean that goes into a sweep and its residual; by how much the mean output of
each part of the window is above that of all."""


class Replica:
    """One replica: its neurons, what is known of frozen variances, and what the sweeps have shown.

    Parameters
    ----------
    system, grid, inputs
    number : int
    begin, rates
        As :func:`solve_stationary` has them.
    """

    def __init__(self, system, grid, inputs, number, begin, rates=None):
        self.system, self.grid, self.inputs, self.number, self.push = system, grid, inputs, number, begin[1]
        solve, self.n_pairs = system.model.solve, max(samples_of(system.model, number) // 2, 8)
        # replicas start apart in size and in memory: what has not settled shows in their scatter
        self.scale = begin[0] * 2.0 ** ((number % 4) - 1.5)
        self.memory = MEMORIES[0 if solve.damping else (number + number // 4) % 2]
        self.seed, self.is_shot = solve.seed, solve.input == "shot"
        self.summary, self.known = Summary(), [Excess() for _ in system.runners]
        self.feedback, self.visited, self.missed, self.frozen = None, [], [], []
        self.given, self.segments, self._segments = [], [], []
        if self.is_shot:
            key = sweep_key(self.seed, 0, 0, number)
            self.drive = shots.ShotDrive(system, grid, self.n_pairs, key, self.scale, rates)
        else:
            self.drive = GaussianDrive(system, grid, inputs, self.n_pairs)

    def start(self):
        """The state with which it begins."""
        out = []
        for a, runner in enumerate(self.system.runners):
            slow = self.memory * max(float(getattr(runner.neuron, "timescale", 10 * self.grid.dt)), 2 * self.grid.dt)
            first = np.full(1, self.drive.rates[a] if self.is_shot else 0.0)
            out += [first, np.full(1, SEED * self.scale), self.scale * np.exp(-self.grid.lags / slow), np.zeros(2)]
        return out

    def outcome(self, drive, state, number, push=0.0, stands_out=None):
        """(new arrays of every population, squared noise of each) after one sweep on the input of a state;
        ``stands_out``: of each population, as :func:`measure` has it."""
        new, noise, self._segments = [], [], []
        for a in range(len(self.system.runners)):
            if self.is_shot and drive.first[a] < a:  # what is alike has the same numbers
                twin = slice(PARTS * drive.first[a], PARTS * (drive.first[a] + 1))
                new += [part.copy() for part in new[twin]]
                noise += noise[twin]
                self._segments.append(self._segments[drive.first[a]])
                continue
            key = sweep_key(self.seed, number, 0 if self.is_shot else a, self.number)
            y, seen, has_frozen, slow = drive.run(a, state, key, push)
            y, n = y[1 + self.grid.warmup :], y.shape[1] // 2
            parts = [part.mean() for part in np.array_split(y, SEGMENTS)]
            self._segments.append(np.array(parts) - np.mean(parts))
            values, noise2 = measure(y[:, :n], y[:, n:], has_frozen, self.grid.n_lags, stands_out[a], slow)
            state_moments = np.zeros(2) if seen is None else seen[:, 1 + self.grid.warmup :].mean(axis=1)
            new += [*values, state_moments]
            noise += [noise2[0], noise2[1], noise2[2][:1], noise2[2][1:]]
        return new, noise

    def sweep(self, state, number):
        """(new state, squared noise of its summary), as :func:`~lft.meanfield.saddle.averaging.average` needs it."""
        if self.is_shot:
            self.drive.follow(state, sweep_key(self.seed, number, 0, self.number))
        push = self.push if number == 0 else 0.0
        new, noise = self.outcome(self.drive, state, number, push, [known.stands_out for known in self.known])
        if self.is_shot:
            self.drive.keep(state, new)
        self.visited.append([m[0] for m in new[::PARTS]])
        self.missed.append([e[0] == 0 for e in new[1::PARTS]])
        self.frozen.append([e[0] for e in state[1::PARTS]])
        self.given.append([m[0] for m in state[::PARTS]])
        self.segments.append(self._segments)
        if self.summary.scales is None:
            self.summary.set_scales(new)
        if self.feedback is not None:
            new = self.feedback.lead(state, new)
            self.feedback.enlarge(noise)
        return new, self.summary.scaled(noise, 2)

    def settle_frozen(self, state, damping):
        """Before averaging: lead the frozen variances to where they give themselves.  Spike trains as input have their
        memory in pools, which tracks would have to share: they go without, as do loops that need much damping."""
        for attempt in range(0 if self.is_shot or damping > DAMPED else STEPS):
            found = [a for a, known in enumerate(self.known) if state[PARTS * a + 1][0] > known.unseen > 0]
            if not found:
                break
            n_pairs = min(max(self.n_pairs // (len(found) + 1), LEAST_PAIRS), self.n_pairs)
            few = GaussianDrive(self.system, self.grid, self.inputs, n_pairs)
            counts = [lambda *_, is_found=a in found: is_found for a in range(len(self.known))]

            def track(held, k, first=TRACKS + attempt * TRACK_SWEEPS, few=few, counts=counts):
                return self.outcome(few, held, first + k, stands_out=counts)

            self.feedback = Feedback(state, found, PARTS, damping, track)
            state, size = self.feedback.step()
            if self.feedback.is_zero() and self._feeds_itself_alone(state):
                state[1::PARTS] = [np.zeros(1) for _ in self.known]
                self.feedback, self.known = None, [Excess() for _ in self.known]
            if size < NEAR:
                break
        return state

    def _feeds_itself_alone(self, state):
        """Whether frozen input comes from the frozen variance of outputs alone, so that 0 is a solution."""
        without = list(state)
        without[1::PARTS] = [np.zeros(1) for _ in self.known]
        for a in range(len(self.known)):
            _, frozen, power, _, _ = self.inputs(a, without)
            if frozen > ALONE * (power[0] + 2 * power[1:-1].sum() + power[-1]) / self.grid.period:
                return False
        return True


    def evidence(self, begun, n):
        """What :data:`EVIDENCE` names, from the last n sweeps: (P, 9 + SEGMENTS)."""
        seen, given, frozen = (np.array(x[-n:]) for x in (self.visited, self.given, self.frozen))
        half, residual = max(n // 2, 1), seen - given
        x, r = given - given.mean(axis=0), residual - residual.mean(axis=0)
        return np.stack([
            seen.min(axis=0), seen.max(axis=0), begun,
            np.mean(self.missed[-n:], axis=0) * [known.unseen for known in self.known],
            frozen[-half:].mean(axis=0) - frozen[:half].mean(axis=0),
            residual.mean(axis=0), np.sum(x * x, axis=0), np.sum(x * r, axis=0), np.sum(r * r, axis=0),
            *np.mean(self.segments[-n:], axis=0).T,
        ], axis=1)


def solve_replica(system, grid, inputs, replica, begin, rates=None):
    """One replica's :class:`~lft.meanfield.saddle.averaging.Settled` state, and what :data:`EVIDENCE` names of each
    population (P, 9 + SEGMENTS); ``begin`` sets the start."""
    solve, run = system.model.solve, Replica(system, grid, inputs, replica, begin, rates)
    start = run.start()
    begun = [float(first[0]) for first in start[::PARTS]]
    settled = average(run.sweep, start, run.summary, solve.sweeps, solve.damping, solve.tolerance,
                      f"replica {replica}: ", shots.FIRST_GAIN if run.is_shot else 1.0, run.settle_frozen)
    return settled, run.evidence(begun, max(settled.n_averaged, 1))


def solve_stationary(model, comm=None, begin=(1.0, 0.0), fed_back=None, rates=None):
    """Sampled stationary solution.

    Parameters
    ----------
    model : Model
        With ``solve`` settings, mode ``stationary``.
    comm : communicator, optional
    begin : tuple of float, optional
        Variance of the outputs to begin with, and -1, 0 or 1 for inputs from below, as they are, or from above in the
        first sweep: several starts find several stable states.
    fed_back : callable, optional
        Angular frequencies (F,) -> G (F, P, P) or None: what a finite network adds to the spectra of its inputs.
    rates : ndarray (P,), optional
        Near the solution: rates of the first spike trains, where the input is made of these.

    Returns
    -------
    system : lft.meanfield.saddle.two_time.System
    grid : Grid
    total : lft.meanfield.saddle.averaging.Replicas
        For each population the arrays m, e, A, observed mean and variance, (mu, frozen, variance without white part);
        then for each what :data:`EVIDENCE` names.  A of each replica is kept.
    evidence : dict
    """
    system, domain = System(model), replica_domain(model, comm)
    if model.solve.input == "shot":
        system.links = shots.independent(system)
    grid, evidence = Grid(model, system.runners), {}
    inputs = Inputs(system, grid, fed_back and fed_back(grid.omega / grid.dt))

    def results():
        for replica in range(*domain.slices[0].indices(model.solve.replicas)):
            settled, ranges = solve_replica(system, grid, inputs, replica, begin, rates)
            evidence.setdefault("residuals", settled.residuals)
            evidence.update(noise=settled.noise, settling=settled.n_settling, averaged=settled.n_averaged,
                            damping=settled.damping, negative_power=0.0)
            out = []
            for a in range(len(system.runners)):
                mu, frozen, power, white, evidence["negative_power"] = inputs(a, settled.state)
                variance = (power[0] + 2 * power[1:-1].sum() + power[-1]) / grid.period + frozen - white / grid.dt
                out += [*settled.state[PARTS * a : PARTS * a + PARTS], np.array([mu, frozen, variance])]
            yield [*out, *ranges]

    lags = [(PARTS + 1) * a + 2 for a in range(len(system.runners))]
    return system, grid, combine(domain, results(), lags), evidence
