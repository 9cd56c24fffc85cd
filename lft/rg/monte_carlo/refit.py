"""Couplings of configurations in a chosen space of operators, and what the space leaves out.

Weight ``exp( sum_a K_a O_a[s] )`` with the operators of :mod:`lft.rg.monte_carlo.operators`.  Two estimators:

- pseudo-likelihood (:class:`PatternTable`, :func:`maximize`): the product over sites of

      P(s_x | rest) = 1 / (1 + exp(-2 s_x eta_x)),      eta_x = sum_a K_a f_a(x),      f_a(x) = dO_a/ds_x,

  maximized by Newton's method; errors from the scores of blocks of configurations (sandwich);
- moment matching (:func:`match_moments`): K such that a simulation has the measured means, ``<O_a>_K = <O_a>``, by
  Newton's method with the simulated covariances, ``d<O_a>/dK_b = <O_a O_b>_c``.

Truncation: :func:`maximize` tests operators that the space does not contain (the coupling that one step of Newton's
method would give them, and the gain in pseudo-likelihood); :func:`simulate` draws configurations of the fitted
couplings, whose operators can be compared with the measured ones, inside and outside the space.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from lft.errors import DivergenceError, InputError
from lft.rg.monte_carlo.operators import Products
from lft.rng import Stream

MAX_CONDITION = 1e12
DIRECT_KEYS = 1 << 21
"""Tables up to this many patterns are counted in place, larger ones by sorting."""
LARGEST = 30.0
"""A coupling beyond this has no finite maximum."""
TOLERANCE = 1e-10
BLOCKS = 40


# ---- patterns
class PatternTable:
    """Counts of ``(f_1 .. f_m, s)`` over sites, by block of configurations.

    Parameters
    ----------
    lattice : Lattice
    operators : sequence of Operator
    kind : {"spin", "gas"}

    Notes
    -----
    Memory follows the number of patterns that occur.  Cost: 4 ns per factor and site, and sorting where there are more
    than 2 million possible patterns.
    """

    def __init__(self, lattice, operators, kind="spin"):
        self.products, self.kind = Products(lattice, operators), kind
        self.operators = self.products.operators
        self.compiled, self.most = self.products.environment()
        self.is_full = self.products.is_full
        self.radix = [int(m) + 1 if self.is_full else 2 * int(m) + 1 for m in self.most]
        self.radix = [1 if o.n_spins == 1 else r for o, r in zip(self.operators, self.radix, strict=True)]
        self.n_keys = math.prod(self.radix)
        if self.n_keys >= 2**61:
            raise InputError(f"{len(self.operators)} operators make {self.n_keys:.2g} local patterns, at most 2^61: "
                             "give fewer operators or shorter ones")
        steps = np.cumprod([1, *self.radix[:-1]]).astype(np.int64)
        # f is -F, -F + 2, .., F where every factor exists: half of the numbers are enough
        self.halved = 2 if self.is_full else 1
        self.weight = np.where([r > 1 for r in self.radix], steps, 0)
        self.offset = int(sum(w * int(m) for w, m in zip(self.weight, self.most, strict=True)))
        self.steps, self.blocks = steps, []
        self.n_sites = len(self.products.sites)

    def count(self, values):
        """A table (keys, minus, plus) of configurations (n, *storage shape)."""
        keys = np.empty((len(values), self.n_sites), np.int64)
        low = 0 if self.kind == "gas" else None
        for row, configuration in zip(keys, values, strict=True):
            spins = configuration if low is None else np.where(configuration > 0, 1, -1)
            flat = self.products.with_absent(spins)
            self.compiled.keys(flat, self.products.sites, self.weight, row)
            row += self.offset
            row //= self.halved
            row *= 2
            row += flat[self.products.sites] > 0
        keys = keys.reshape(-1)
        if 2 * self.n_keys <= DIRECT_KEYS:
            number = np.bincount(keys, minlength=2 * self.n_keys).reshape(-1, 2)
            found = np.flatnonzero(number.any(axis=1))
            return np.column_stack([found, number[found]])
        unique, number = np.unique(keys, return_counts=True)
        return _merged(np.column_stack([unique >> 1, number * (1 - (unique & 1)), number * (unique & 1)]))

    def add_block(self, values):
        """Count configurations as one block."""
        self.blocks.append(self.count(values))

    def add_to(self, number, values):
        """Count configurations into block ``number``, a new one if it is the next."""
        if number == len(self.blocks):
            return self.add_block(values)
        self.blocks[number] = _merged(np.concatenate([self.blocks[number], self.count(values)]))

    def features(self, keys):
        """f (n, m) of keys."""
        columns = []
        for o, radix, step, most in zip(self.operators, self.radix, self.steps, self.most, strict=True):
            digit = keys // step % radix
            columns.append(np.ones(len(keys)) if o.n_spins == 1 else digit * self.halved - float(most))
        return np.column_stack(columns)

    def merged(self):
        """(f, minus, plus) of all blocks, and per block (indices into them, minus, plus)."""
        if not self.blocks:
            raise InputError("no configuration: nothing to fit")
        whole = _merged(np.concatenate(self.blocks))
        parts = [(np.searchsorted(whole[:, 0], b[:, 0]), b[:, 1].astype(float), b[:, 2].astype(float))
                 for b in self.blocks]  # fmt: skip
        return self.features(whole[:, 0]), whole[:, 1].astype(float), whole[:, 2].astype(float), parts


def _merged(rows):
    """Rows (key, minus, plus) with every key once, sorted."""
    keys, where = np.unique(rows[:, 0], return_inverse=True)
    out = np.zeros((len(keys), 3), np.int64)
    out[:, 0] = keys
    for c in (1, 2):
        out[:, c] = np.bincount(where, rows[:, c], len(keys)).astype(np.int64)
    return out


# ---- pseudo-likelihood
@dataclass(frozen=True)
class OperatorFit:
    """Couplings of a space of operators.

    Attributes
    ----------
    operators : tuple of Operator
    values : ndarray (m,)
    covariance : ndarray (m, m)
        nan where a single block leaves no error.
    score : float
        Pseudo-log-likelihood in nats per site; nan for moment matching.
    condition_number : float
        Of the information (operators scaled to unit diagonal).
    outside : dict of str to (value, error, gain)
        Operators outside the space: coupling of one Newton step, its error, gain in nats per site.
    notes : list of str
    """

    operators: tuple
    values: np.ndarray
    covariance: np.ndarray
    score: float
    condition_number: float
    outside: dict = field(default_factory=dict)
    notes: list = field(default_factory=list)

    @property
    def couplings(self):
        """``{name: (value, error)}``: ``h``, ``K[1,0]``, ..."""
        errors = np.sqrt(np.diag(self.covariance))
        return {o.coupling: (float(v), float(e)) for o, v, e in zip(self.operators, self.values, errors, strict=True)}


def maximize(table, n_inside=None):
    """Couplings that maximize the pseudo-likelihood of the first operators of a table; the others are tested.

    Parameters
    ----------
    table : PatternTable
        With its blocks counted.
    n_inside : int, optional
        Operators in the space; the rest of the table's operators are outside of it.  Default: all.

    Returns
    -------
    OperatorFit

    Raises
    ------
    InputError
        The operators cannot be told apart on this data: the condition number of the information is given.
    DivergenceError
        A coupling has no finite maximum.

    Notes
    -----
    The pseudo-likelihood is concave; Newton's method with halved steps.  Blocks should be longer than the
    autocorrelation time: where merging pairs of blocks raises an error by more than 40 %, a note says so.

    References
    ----------
    J. Besag, doi 10.2307/2987782.
    """
    m = len(table.operators) if n_inside is None else n_inside
    f, minus, plus, parts = table.merged()
    inside, total = f[:, :m], minus + plus
    names = [o.coupling for o in table.operators]
    K = np.zeros(m)
    value, gradient, information = _evaluate(inside, minus, plus, K)
    for _ in range(200):
        step = _solve(information, gradient, names[:m])
        scale = 1.0
        while True:
            trial = _evaluate(inside, minus, plus, K + scale * step)
            if trial[0] >= value - 1e-12 * abs(value) or scale < 1e-6:
                break
            scale /= 2
        K, (value, gradient, information) = K + scale * step, trial
        if abs(K).max() > LARGEST:
            k = int(abs(K).argmax())
            raise DivergenceError(f"coupling {names[k]} grows beyond {LARGEST:g}: the pseudo-likelihood has no finite "
                                  "maximum (the patterns that would bound it do not occur)")
        if abs(gradient @ step) <= TOLERANCE * total.sum():
            break
    else:
        raise DivergenceError("the pseudo-likelihood did not converge in 200 steps")
    residual = (plus - minus) - total * np.tanh(inside @ K)
    per_block = np.array([_block_score(f, K, part) for part in parts])
    bread = np.linalg.inv(information)
    covariance, notes = _sandwich(bread, per_block[:, :m])
    if not np.isfinite(covariance).all():
        notes.append("a single block of configurations: the errors are unknown")
    fit_outside = {
        names[k]: _one_step(f, residual, total, K, information, per_block, m, k) for k in range(m, f.shape[1])
    }
    return OperatorFit(table.operators[:m], K, covariance, float(value / total.sum()), _condition(information),
                       fit_outside, notes)


def _evaluate(f, minus, plus, K):
    eta = f @ K
    value = -float(plus @ np.logaddexp(0, -2 * eta) + minus @ np.logaddexp(0, 2 * eta))
    tanh = np.tanh(eta)
    gradient = (plus - minus - (plus + minus) * tanh) @ f
    weight = (plus + minus) / np.cosh(np.clip(eta, -300, 300)) ** 2
    return value, gradient, f.T @ (weight[:, None] * f)


def _condition(information):
    scale = np.sqrt(np.diag(information))
    if not np.isfinite(information).all() or not (scale > 0).all():
        return math.inf
    values = np.linalg.eigvalsh(information / np.outer(scale, scale))
    return math.inf if values[0] <= 0 else float(values[-1] / values[0])


def _solve(information, gradient, names):
    condition = _condition(information)
    if condition > MAX_CONDITION:
        raise InputError(f"operators {' '.join(names)} cannot be told apart on this data: condition number "
                         f"{condition:.3g} of their information, at most {MAX_CONDITION:.0e}; give fewer")
    return np.linalg.solve(information, gradient)


def _block_score(f, K, part):
    where, minus, plus = part
    x = f[where]
    return (plus - minus - (plus + minus) * np.tanh(x[:, : len(K)] @ K)) @ x


def _sandwich(bread, scores):
    """Covariance from block scores, and a note where it grows when blocks are merged."""
    g = len(scores)
    if g < 2:
        return np.full_like(bread, np.nan), []
    covariance = g / (g - 1) * bread @ (scores.T @ scores) @ bread
    notes = []
    if g >= 16:
        pairs = scores[: g // 4 * 4].reshape(g // 4, 4, -1).sum(axis=1)
        merged = bread @ (pairs.T @ pairs) @ bread * (g // 4) / (g // 4 - 1)
        growth = np.sqrt(np.median(np.diag(merged) / np.diag(covariance)))
        if growth > 1.4:
            notes.append(f"errors grow by {growth:.2g} when blocks of configurations are joined by four: the blocks "
                         "are shorter than the autocorrelation time, the errors too small")
    return covariance, notes


def _one_step(f, residual, total, K, information, per_block, m, k):
    """Coupling of an operator outside the space after one Newton step, its error, the gain in nats per site."""
    weight = total / np.cosh(np.clip(f[:, :m] @ K, -300, 300)) ** 2
    cross = f[:, :m].T @ (weight * f[:, k])
    remaining = float(weight @ f[:, k] ** 2 - cross @ np.linalg.solve(information, cross))
    if remaining <= 1e-9 * float(weight @ f[:, k] ** 2):
        return math.nan, math.nan, math.nan
    scores = per_block[:, k] - per_block[:, :m] @ np.linalg.solve(information, cross)
    value = float(residual @ f[:, k]) / remaining
    g = len(scores)
    error = math.sqrt(g / (g - 1) * float(scores @ scores)) / remaining if g > 1 else math.nan
    return value, error, value**2 * remaining / 2 / float(total.sum())


def fit_operators(values, lattice, operators, outside=(), kind="spin", n_blocks=BLOCKS):
    """Couplings of configurations by pseudo-likelihood, and a test of operators outside the space.

    Parameters
    ----------
    values : ndarray of int8, shape (n, *storage shape)
        Configurations in their order.
    lattice : Lattice
    operators, outside : sequence of Operator
        The space, and what is tested against it.
    kind : {"spin", "gas"}
    n_blocks : int, optional
        Blocks of configurations behind the errors; at most one per configuration.

    Returns
    -------
    OperatorFit

    Examples
    --------
    >>> from lft.actions import Ising
    >>> from lft.geometry import Lattice
    >>> from lft.rg.monte_carlo.cascade import sampled
    >>> from lft.rg.monte_carlo.operators import operator_set
    >>> from lft.rg.monte_carlo.refit import fit_operators
    >>> from lft.rng import Key
    >>> from lft.updaters import HeatBath
    >>> lattice = Lattice((16, 16))
    >>> (spins,) = sampled(Ising(0.3), lattice, HeatBath(), Key(2), 200, every=5, thermalize=50)
    >>> fit = fit_operators(spins, lattice, operator_set(2, 2, 1))
    >>> value, error = fit.couplings["K[1,0]"]
    >>> abs(value - 0.3) < 4.5 * error < 0.05
    True
    """
    table = PatternTable(lattice, [*operators, *outside], kind)
    for part in np.array_split(np.asarray(values), max(1, min(n_blocks, len(values)))):
        table.add_block(part)
    return maximize(table, len(operators))


# ---- simulation of a space of operators
def simulate(lattice, operators, couplings, start, sweeps, key, every=1, thermalize=0):
    """Configurations of ``exp(sum_a K_a O_a)`` by heat bath, many chains side by side.

    Parameters
    ----------
    lattice : Lattice
    operators : sequence of Operator
    couplings : array_like (m,)
    start : ndarray of int8, shape (n_chains, *storage shape)
        First configurations (not changed).
    sweeps, every, thermalize : int
        Sweeps after thermalization, between two yields, and before.
    key : lft.rng.Key

    Yields
    ------
    ndarray of int8, shape (n_chains, *storage shape)

    Notes
    -----
    Sites are visited in storage order: each visit leaves the weight invariant.  Cost: 4 ns per factor and site, serial;
    meant for the small lattices that blocking ends with.
    """
    products = Products(lattice, operators)
    compiled, _ = products.environment()
    K = np.ascontiguousarray(couplings, dtype=float)
    if K.shape != (len(products.operators),) or not np.isfinite(K).all():
        n = len(products.operators)
        raise InputError(f"couplings = {couplings!r}: valid is one finite number per operator, {n}")
    spins = np.stack([products.with_absent(row) for row in start])
    n = len(products.sites)
    half = (len(spins) * n + 1) // 2
    for t in range(thermalize + sweeps):
        noise = np.concatenate(key.fill("logistic", 0, 1, half, t, Stream.HEATBATH))[: len(spins) * n]
        compiled.sweep(K, products.sites, noise.reshape(len(spins), n), spins)
        if t >= thermalize and (t - thermalize + 1) % every == 0:
            yield spins[:, :-1].reshape(len(spins), *lattice.storage_shape).copy()


def simulated_moments(lattice, operators, couplings, start, sweeps, key, every=2, thermalize=100):
    """Mean of O per configuration, its covariance, and the covariance <O O>_c, from :func:`simulate`.

    The chains are independent: the spread of their means gives the error of the mean.
    """
    products = Products(lattice, operators)
    first = second = 0.0
    per_chain, n = 0.0, 0
    inside = list(operators)[: len(couplings)]
    for batch in simulate(lattice, inside, couplings, start, sweeps, key, every, thermalize):
        o = products.sums(batch).astype(float)
        per_chain = per_chain + o
        first, second, n = first + o.sum(axis=0), second + o.T @ o, n + 1
    chains = len(start)
    mean = first / (n * chains)
    spread = per_chain / n - mean
    of_mean = spread.T @ spread / (chains * max(chains - 1, 1)) if chains > 1 else np.full((len(mean),) * 2, np.nan)
    return mean, of_mean, second / (n * chains) - np.outer(mean, mean)


def match_moments(mean, covariance, lattice, operators, guess, start, key, sweeps=200, iterations=8):
    """Couplings at which a simulation has the given means.

    Newton steps ``K <- K + C^-1 (<O> - <O>_K)`` with ``C = <O O>_c`` of the simulation; the last steps, with four times
    the sweeps, are averaged into the result.

    Parameters
    ----------
    mean, covariance : ndarray (m,), (m, m)
        Measured means of O (per configuration) and the covariance of these means.
    lattice, operators
        The space.
    guess : array_like (m,)
        For example a pseudo-likelihood fit.
    start : ndarray of int8 (n_chains, *storage shape)
        First configurations of the chains, two or more.
    key : Key
    sweeps, iterations : int, optional

    Returns
    -------
    OperatorFit
        Errors: ``C^-1 (measured + simulated covariance of the means) C^-1``.

    Raises
    ------
    InputError
        C is singular: its condition number is given.
    DivergenceError
        The steps do not settle.
    """
    if len(start) < 2:
        raise InputError(f"start holds {len(start)} configurations: moment matching needs 2 chains or more")
    K, names = np.array(guess, float), [o.coupling for o in operators]
    for step in range(iterations):
        last = step == iterations - 1
        n = 4 * sweeps if last else sweeps
        stage = type(key)(key.seed, key.replica * 1000 + step + 1)
        found, error, C = simulated_moments(lattice, operators, K, start, n, stage)
        condition = _condition(C)
        if condition > MAX_CONDITION:
            raise InputError(f"operators {' '.join(names)} cannot be told apart in the simulation: condition number "
                             f"{condition:.3g} of <O O>, at most {MAX_CONDITION:.0e}; give fewer")
        change = np.linalg.solve(C, mean - found)
        largest = abs(change).max()
        change *= min(1.0, 0.2 / largest) if largest > 0 and not last else 1.0
        if abs(K + change).max() > LARGEST or not np.isfinite(change).all():
            raise DivergenceError("moment matching does not settle: start nearer or give more configurations")
        K = K + change
    inverse = np.linalg.inv(C)
    result = inverse @ (covariance + error) @ inverse
    notes = []
    last_error = np.sqrt(np.diag(result))
    if (abs(change) > 4.5 * last_error).any():
        k = int(np.argmax(abs(change) / last_error))
        notes.append(f"moment matching: the last step still moved {names[k]} by {change[k]:.2g}; errors are too small")
    return OperatorFit(tuple(operators), K, result, math.nan, condition, {}, notes)
