"""Parts of a verdict on exact small models: statistics against direct sums, scores against formulas, bad input."""

import itertools

import numpy as np
import pytest

from lft import links
from lft.errors import InputError
from lft.inference.causal.model import CausalModel
from lft.inference.likelihood.model import GibbsModel
from lft.inference.protocols import BinaryModel, LogLikelihood
from lft.inference.trials import split_trials
from lft.inference.verdict import statistics as st
from lft.inference.verdict.checks import check_model, jackknife_error
from lft.inference.verdict.common_input import common_input
from lft.inference.verdict.conditional import conditional_log_odds, conditional_scores
from lft.inference.verdict.drift import Drift, drift
from lft.inference.verdict.heat import exact_independent, shifted, specific_heat
from lft.inference.verdict.independent import IndependentModel
from lft.inference.verdict.ranking import block_edges, held_out, paired_difference, rank
from lft.inference.verdict.scan import scan_bins

RNG = np.random.default_rng(5)
RASTER = (RNG.random((600, 5)) < np.array([0.1, 0.2, 0.3, 0.4, 0.15])).astype(np.int8)
RASTER[:, 1] |= RASTER[:, 0]  # so that not all correlations vanish


def value(key, raster=RASTER, **options):
    """Components of one statistic of a single stretch, classes not joined."""
    (test,) = [s for s in st.statistics(raster.shape[1], len(raster), **options) if s.key == key]
    return test.values(test.sums(raster).astype(float))


def test_moments_are_those_of_the_definition():
    phi = RASTER.astype(float)
    deviation = phi - phi.mean(axis=0)
    pairs = list(itertools.combinations(range(5), 2))
    assert np.allclose(value("rates"), phi.mean(axis=0))
    assert np.allclose(value("pairs"), [(deviation[:, i] * deviation[:, j]).mean() for i, j in pairs], atol=1e-7)
    triples = itertools.combinations(range(5), 3)
    assert np.allclose(value("triples"), [deviation[:, list(t)].prod(axis=1).mean() for t in triples], atol=1e-7)
    assert np.allclose(value("count"), np.bincount(RASTER.sum(axis=1), minlength=6) / 600)


def test_correlograms_are_those_of_the_definition():
    phi, p = RASTER.astype(float), RASTER.mean(axis=0)
    lagged = {k: phi[:-k].T @ phi[k:] / (600 - k) - np.outer(p, p) for k in (1, 2, 3)}
    off = ~np.eye(5, dtype=bool)
    assert np.allclose(value("crosscorrelogram", max_lag=3), [lagged[k][off].mean() for k in (1, 2, 3)], atol=1e-7)
    assert np.allclose(value("autocorrelation", max_lag=3), [lagged[k].diagonal().mean() for k in (1, 2, 3)], atol=1e-7)
    i, j = np.array(list(itertools.combinations(range(5), 2))).T
    expected = [lagged[k][np.append(i, j), np.append(j, i)] for k in (1, 2)]
    assert np.allclose(value("lagged_pairs", max_lag=3), np.concatenate(expected), atol=1e-7)
    inside = st.Constraints(auto_lags=(1, 2), cross_lags=(1,))
    found = {s.key: s for s in st.statistics(5, 100, inside, max_lag=3)}
    assert found["autocorrelation"].x.tolist() == [3] and found["crosscorrelogram"].x.tolist() == [2, 3]


def test_runs_leave_out_what_the_border_cuts():
    count = np.array([2, 0, 0, 1, 3, 0, 1, 0, 0, 0, 1])
    raster = (np.arange(3) < count[:, None]).astype(np.int8)
    assert st._silences(raster).tolist() == [2, 1, 3]
    assert st._durations(raster).tolist() == [2, 1]
    assert st._sizes(raster).tolist() == [4, 1]
    assert sorted(st._intervals(raster).tolist()) == sorted([3, 1, 2, 4, 4])


def test_spectrum_keeps_the_variance():
    frequencies = np.abs(np.fft.rfft(RASTER.sum(axis=1) - RASTER.sum(axis=1).mean())[1:]) ** 2 / (600 * 5)
    (test,) = [s for s in st.statistics(5, 600) if s.key == "spectrum"]
    found = test.values(test.sums(RASTER))
    assert np.isclose(found[0], frequencies[0]) and np.isclose(
        found[-1], frequencies[-len(frequencies) // 3 :].mean(), rtol=0.5
    )


def test_rare_classes_are_joined_without_seeing_labels():
    (test,) = [s for s in st.statistics(5, 600) if s.key == "count"]
    sums = st.measure(test, np.split(RASTER, 6))
    one, (a, b) = st.join_rare(test, sums[:2], sums[2:])
    two, (c, d) = st.join_rare(test, sums[4:], sums[:4])
    assert np.array_equal(one.x, two.x) and np.array_equal(a.sum(axis=0) + b.sum(axis=0), c.sum(axis=0) + d.sum(axis=0))
    assert (np.concatenate([a, b])[:, 1:].sum(axis=0) >= st.RARE).all()
    assert np.isclose(one.values(sums_total := a.sum(axis=0) + b.sum(axis=0)).sum(), 1) and sums_total[0] == 600


def test_subsets_are_reproducible_and_different():
    first, again = st._subset(60, 3, 500, 3), st._subset(60, 3, 500, 3)
    assert np.array_equal(first, again) and not np.array_equal(first, st._subset(60, 3, 500, 4))
    assert len({tuple(t) for t in first}) == 500 and (np.diff(first, axis=1) > 0).all() and first.max() < 60
    assert len(st._subset(6, 3, 500, 0)) == 20 and len(st._subset(2, 3, 500, 0)) == 0


def test_jackknife_of_a_mean_is_its_standard_error():
    x = RNG.normal(size=40)
    sums = np.stack([np.ones(40), x], axis=1)
    assert np.isclose(jackknife_error(lambda s: s[..., 1] / s[..., 0], sums), x.std(ddof=1) / np.sqrt(40))


def test_independent_model():
    model = IndependentModel.fitted(RASTER)
    assert isinstance(model, BinaryModel)
    p = RASTER.mean(axis=0)
    exact = 600 * float((p * np.log(p) + (1 - p) * np.log(1 - p)).sum())
    found = model.log_likelihood([RASTER], [np.array([0, 100, 600])])
    assert np.isclose(found.value, exact) and np.isclose(found.blocks.sum(), exact) and len(found.blocks) == 2
    drawn = model.simulate(5000, seed=2, n_chains=4)
    z = (drawn.mean(axis=(0, 1)) - p) / np.sqrt(p * (1 - p) / 20000)
    assert np.abs(z).max() < 4.5
    assert np.array_equal(drawn[:2], model.simulate(5000, seed=2, n_chains=2))


class Chain:
    """Units on their own that repeat their last bin: log-odds c + b phi(t - 1); a causal model with a memory of 1."""

    kind, n_lags = "causal", 1

    def __init__(self, c, b):
        self.c, self.b, self.n_units = np.asarray(c, float), b, len(c)

    def log_odds(self, raster):
        before = np.vstack([np.zeros((1, self.n_units)), raster[:-1]])
        return self.c + self.b * before

    def simulate(self, n_bins, *, seed, n_chains=1):
        rng = np.random.default_rng(seed)
        state = np.zeros((n_chains, self.n_units))
        out = np.empty((n_chains, n_bins + 50, self.n_units), np.int8)
        for t in range(n_bins + 50):
            state = rng.random(state.shape) < 1 / (1 + np.exp(-self.c - self.b * state))
            out[:, t] = state
        return out[:, 50:]

    def log_likelihood(self, rasters, edges=None):
        raise AssertionError("a causal model is scored by its log-odds")


def test_every_model_is_a_distribution_of_the_same_bins():
    """Probabilities of all rasters of 3 bins and 2 units add up to 1, for a causal model too."""
    reference, model = IndependentModel(np.array([-0.5, 0.3])), Chain([-1.0, 0.2], 1.5)
    states = np.array(list(itertools.product((0, 1), repeat=6))).reshape(-1, 3, 2)
    for m in (reference, model):
        total = sum(np.exp(held_out(m, [s], [np.array([0, 3])], reference).value) for s in states)
        assert np.isclose(total, 1)


def joint(model, raster):
    """Log-probability of a raster, up to a constant, for a Gibbs or a causal model."""
    if model.kind == "causal":
        z = links.log_odds(model.link, model.eta(raster))
        return (raster * z - np.logaddexp(0, z)).sum()
    return model.log_weights(raster).sum()


@pytest.mark.parametrize("family", ["logit", "cloglog", "neural"])
def test_conditional_log_odds_are_ratios_of_joint_probabilities(family):
    rng = np.random.default_rng(3)
    if family == "neural":
        a = np.triu(rng.normal(0, 1, (3, 3)), 1)
        model = GibbsModel([-1.0, -0.5, 0.3], a + a.T, None, {1: 0.8, 2: -0.4})
    else:
        model = CausalModel(rng.normal(-1, 0.5, 3), rng.normal(0, 1, (2, 3, 3)), family)
    raster = (rng.random((7, 3)) < 0.4).astype(np.int8)
    rows, exact = [0, 3, 5, 6], np.empty((7, 3))
    for bin_, unit in np.ndindex(exact.shape):
        on, off = raster.copy(), raster.copy()
        on[bin_, unit], off[bin_, unit] = 1, 0
        exact[bin_, unit] = joint(model, on) - joint(model, off)
    assert np.allclose(conditional_log_odds(model, raster, rows), exact[rows], atol=1e-12)
    if family != "neural":  # mutant: the past alone
        assert np.abs(links.log_odds(model.link, model.eta(raster))[rows] - exact[rows])[:2].max() > 0.1


def test_conditional_scores_prefer_the_true_family():
    a = np.array([[0, 1.5, 0], [1.5, 0, -1], [0, -1, 0]])
    gibbs, causal = GibbsModel([-1.5, -1.5, -1.0], a), CausalModel(np.full(3, -1.5), np.array([1.5 * np.eye(3)]))
    for true, other in ((gibbs, causal), (causal, gibbs)):
        raster = true.simulate(3000, seed=4)[0]
        models = {"independent": IndependentModel.fitted([raster]), "true": true, "other": other}
        scores = conditional_scores(models, [raster[:1000], raster[1000:]], n_bins=2000)
        assert scores["independent"] == (0.0, 0.0) and scores["true"][0] > 5 * scores["true"][1]
        assert scores["true"][0] - scores["other"][0] > 4.5 * np.hypot(scores["true"][1], scores["other"][1])
    with pytest.raises(InputError, match="rows from 0 to 3000"):
        conditional_log_odds(causal, raster, [0, 3000])
    with pytest.raises(InputError, match="n_bins = 5"):
        conditional_scores(models, raster, n_bins=5)
    with pytest.raises(InputError, match="no spike"):
        conditional_scores(models, np.zeros((100, 3), np.int8))
    with pytest.raises(InputError, match="infinite couplings"):
        conditional_log_odds(CausalModel(np.zeros(1), np.full((1, 1, 1), -np.inf)), np.zeros((5, 1), np.int8), [0])


def test_paired_difference_is_the_error_of_a_sum():
    d = RNG.normal(size=20)
    zero = LogLikelihood(0.0, 0.0, np.zeros(20))
    value, error = paired_difference(LogLikelihood(d.sum(), 0.3, d), zero, np.ones(20))
    assert np.isclose(value, d.sum()) and np.isclose(error, np.hypot(np.sqrt(20) * d.std(ddof=1), 0.3))


def test_ranking_prefers_the_simpler_of_two_that_tie():
    model = Chain(np.full(6, -2.0), 0.0)
    train, test = split_trials([model.simulate(4000, seed=1)[0]], 0.25)
    independent = IndependentModel.fitted(train)
    wrong = Chain([-2.0] * 6, 2.0)
    ranking = rank({"independent": (independent, 6), "same": (independent, 9), "wrong": (wrong, 7)}, test)
    assert ranking.selected == "independent" and ranking["same"].ties and not ranking["wrong"].ties
    assert ranking["wrong"].bits_per_spike[0] < 0 and ranking["same"].bits_per_spike == (0.0, 0.0)
    assert [w.split(":")[0] for w in ranking.warnings] == ["model wrong"]
    assert "selected" in ranking.table() and ranking.as_json()["selected"] == "independent"


def test_ranking_finds_the_memory():
    model = Chain(np.full(6, -2.0), 1.5)
    train, test = split_trials([model.simulate(6000, seed=2)[0]], 0.25)
    ranking = rank({"independent": (IndependentModel.fitted(train), 6), "chain": (model, 7)}, test)
    assert ranking.selected == "chain" and ranking["chain"].bits_per_spike[0] > 10 * ranking["chain"].bits_per_spike[1]


class Slow:
    """A score that scatters about that of another model, with a memory: ``x_a = rho x_(a-1) + noise`` nats in bin a."""

    kind, n_units = "static", 2

    def __init__(self, base, rho, n_bins, seed):
        from scipy.signal import lfilter

        noise = np.random.default_rng(seed).normal(size=n_bins + 500)
        self.base, self.extra = base, lfilter([1], [1, -rho], noise)[500:]

    def log_likelihood(self, rasters, edges):
        blocks = self.base.log_likelihood(rasters, edges).blocks + np.add.reduceat(self.extra, edges[0][:-1])
        return LogLikelihood(float(blocks.sum()), 0.0, blocks)


@pytest.mark.parametrize("rho, memory", [(0.0, 0.0), (0.98, 49.0)])
def test_errors_of_a_ranking_know_the_memory_of_its_scores(rho, memory, monkeypatch):
    """Two models of equal mean differ at 1 % in one recording of 100; blocks that ignore the memory say more often."""
    from scipy.stats import t as student

    raster = (np.random.default_rng(0).random((4000, 2)) < 0.2).astype(np.int8)
    base = IndependentModel.fitted([raster])

    def false_alarms():
        p, found = [], []
        for seed in range(300):
            found.append(rank({"independent": (base, 2), "slow": (Slow(base, rho, 4000, seed), 3)}, raster))
            difference, error = found[-1].difference("slow", "independent")
            p.append(2 * student.sf(abs(difference) / error, found[-1].n_blocks - 1))
        return np.mean(np.array(p) < 0.01), found

    rate, found = false_alarms()
    assert abs(np.mean([r.memory_bins for r in found]) - memory) < 0.35 * memory + 1
    assert rate <= 0.03 and all(sum(r.sizes) == 4000 for r in found)
    assert np.mean([len(r.sizes) == (20 if rho == 0 else 10) for r in found]) > 0.95
    if rho:
        assert np.mean([any("correlated over" in w for w in r.warnings) for r in found]) > 0.5
        monkeypatch.setattr("lft.inference.verdict.ranking.integrated_time", lambda series: 0.5)  # mutant
        assert false_alarms()[0] > 0.035


def test_specific_heat_of_independent_units_is_exact():
    c = np.array([-3.0, -2.0, -1.0, 0.5])
    for is_static in (True, False):
        curve = specific_heat(lambda b: IndependentModel(b * c), lambda r: r @ c, 4, (0.5, 1.0, 1.7),
                              is_static=is_static, n_bins=50, n_chains=400, seed=3)  # fmt: skip
        exact = np.array([exact_independent(c, b) for b in curve.beta])
        assert (np.abs(curve.value - exact) < 4.5 * curve.error).all() and (curve.error < 0.1 * exact).all()
    broken = specific_heat(
        lambda b: IndependentModel(c),
        lambda r: r @ c,
        4,
        (0.5, 1.0, 1.7),
        is_static=True,
        n_bins=50,
        n_chains=400,
        seed=3,
    )  # fmt: skip  the temperature forgotten
    assert (np.abs(broken.value - exact) > 4.5 * broken.error).any()


def test_the_control_keeps_rates_and_own_correlations():
    (turned,) = shifted([RASTER], seed=1)
    assert np.array_equal(turned.sum(axis=0), RASTER.sum(axis=0))
    for i in range(5):
        assert any(np.array_equal(turned[:, i], np.roll(RASTER[:, i], k)) for k in range(600))
    assert not np.array_equal(turned, RASTER)


def test_drift_is_found_and_chance_is_not():
    rng = np.random.default_rng(4)
    steady = (rng.random((8000, 20)) < 0.1).astype(np.int8)
    rising = (rng.random((8000, 20)) < np.linspace(0.06, 0.14, 8000)[:, None]).astype(np.int8)
    assert drift(steady).warning is None and "not stationary" in drift(rising).warning
    # rates of the 8 windows are 0.1 +- 0.0229
    assert abs(drift(rising).rate_change - 0.229) < 0.03


@pytest.mark.parametrize(
    ("p_rates", "rate_change", "p_pairs", "pair_change", "is_named"),
    [(0.002, 0.03, 0.4, 0.5, False), (0.4, 0.3, 0.002, 0.03, False), (0.002, 0.2, 0.4, 0.0, True),
     (0.4, 0.0, 0.002, 0.2, True)],
)  # fmt: skip
def test_a_drift_is_significant_and_large_in_one_test(p_rates, rate_change, p_pairs, pair_change, is_named):
    """A significant change of no size and a large one by chance are no drift together."""
    found = Drift(p_rates, p_pairs, rate_change, pair_change, 100, 10, np.ones(8))
    assert (found.warning is not None) == is_named


def scanned(changed, seed):
    """Warnings of a scan: couplings of two widths, scaled by 1.5 or ``changed``, with errors of 0.1 mostly shared."""
    rng = np.random.default_rng(seed)
    true, shared = rng.normal(0, 0.05 if changed is None else 1.0, 28), rng.normal(0, 0.08, 28)
    other = 1.5 * true if changed is None else changed * rng.normal(0, 1.0, 28)

    class Fitted:
        model, n_bins, gain = "neural", 1000, (0.0, 0.0)

        def __init__(self, value):
            self.table = np.zeros((8, 8))
            self.table[np.triu_indices(8, 1)] = value + shared + rng.normal(0, 0.06, 28)

        def arrays(self):
            return {"A": self.table, "A_error": np.full((8, 8), 0.1)}

    fits = {0.01: Fitted(true), 0.02: Fitted(other)}
    return scan_bins(lambda width: (fits[width], 0.1, 0.0), [0.01, 0.02])


def test_a_scan_of_bins_names_change_and_not_noise():
    quiet = [scanned(None, seed) for seed in range(60)]
    assert sum(scan.points[1].correlation < 0.8 for scan in quiet) > 20  # the mutant: correlation alone
    assert not any(scan.warnings for scan in quiet)
    assert all("depend on the bin" in scanned(1.0, seed).warnings[0] for seed in range(20))


def test_true_couplings_survive_the_common_input():
    """A latent rate makes false couplings, which go; the one pair that is coupled stays."""
    rng = np.random.default_rng(6)
    slow = np.repeat(np.where(rng.random(200) < 0.5, 0.03, 0.25), 50)
    raster = (rng.random((10000, 10)) < slow[:, None]).astype(np.int8)
    raster[:, 1] = np.where(rng.random(10000) < 0.5, raster[:, 0], raster[:, 1])
    found = common_input(raster, width_bins=8.0)
    assert found.after[0, 1] > 10 * found.after_error[0, 1]
    false = [(i, j) for i, j in itertools.combinations(range(2, 10), 2)]
    z_before = np.array([found.before[p] / found.before_error[p] for p in false])
    z_after = np.array([found.after[p] / found.after_error[p] for p in false])
    assert np.mean(np.abs(z_before) > 2) > 0.8 and np.mean(np.abs(z_after) > 2) < 0.3
    assert found.lost > 0.25 and "common input" in found.warning


def test_bad_input_is_one_line_that_names_the_value():
    model = IndependentModel(np.zeros(3))
    raster = model.simulate(2000, seed=0)[0]
    for wrong, words in (
        (lambda: check_model(model, raster[:, :2]), "2 units"),
        (lambda: check_model(model, raster[:50]), "stretches"),
        (lambda: check_model(model, raster, n_stretches=3), "n_stretches = 3"),
        (lambda: check_model(model, raster, n_labels=99), "n_labels = 99"),
        (lambda: check_model(IndependentModel(np.full(3, -60.0)), raster), "silent"),
        (lambda: rank({"other": (model, 3)}, raster), "independent"),
        (lambda: rank({"independent": (model, 3)}, np.zeros((100, 3), np.int8)), "no spike"),
        (lambda: block_edges([100], 3), "n_blocks = 3"),
        (lambda: specific_heat(None, None, 3, [1.0, 0.5, 2.0], is_static=True), "increasing"),
        (lambda: common_input(raster, ridge=0.0), "ridge"),
        (lambda: common_input(raster[:, :2]), "2 units"),
        (lambda: drift(raster[:40]), "40 bins"),
        (lambda: scan_bins(None, [0.02]), "at least 2"),
    ):
        with pytest.raises(InputError, match=words) as caught:
            wrong()
        assert "\n" not in str(caught.value)
