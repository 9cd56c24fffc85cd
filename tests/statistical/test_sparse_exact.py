"""Chains on small graphs against enumeration: energies and pair correlations, irregular degrees, a free unit, fields.

Chains are independent, so the error bar is that between chains.  The broken kernels at the end must be rejected by the
same tests at the same length.
"""

import numpy as np
import pytest
from scipy.sparse import csr_matrix

import lft.sparse
from lft._kernels import sparse
from lft.actions import Neural, Pairwise
from lft.geometry import Graph
from lft.rng import Key
from lft.sparse import ChainBits, Colored, Lanes
from lft.testing import enumerate_states, z_score
from lft.updaters import start

KINDS = [Colored, Lanes, ChainBits]
EDGES = [(0, 1), (0, 2), (0, 3), (0, 4), (0, 5), (0, 6), (1, 2), (3, 4), (4, 5), (5, 7), (7, 8)]  # unit 9 has none
N = 10


def action_of(kind, with_h=True, seed=3):
    rng = np.random.default_rng(seed)
    a, b = np.array(EDGES).T
    J = rng.choice([-0.45, 0.45], len(a)) if kind is ChainBits else rng.normal(0, 0.6, len(a))
    J = csr_matrix((J, (a, b)), shape=(N, N))
    h = np.zeros(N)
    if with_h:
        h[[1, 4, 8]] = 0.35 if kind is ChainBits else rng.normal(0, 0.5, 3)
    return Pairwise(J=J + J.T, h=h)


def exact(action, beta=1.0):
    """Energy, magnetizations and pair correlations."""
    s = enumerate_states(N).astype(float)
    J = action.couplings["J"].toarray()
    energy = -0.5 * np.einsum("ki,ij,kj->k", s, J, s) - s @ action.couplings["h"]
    p = np.exp(-beta * (energy - energy.min()))
    p /= p.sum()
    return np.concatenate([[p @ energy], p @ s, ((s * p[:, None]).T @ s)[np.triu_indices(N, 1)]])


def moments(action, s):
    """The same of one configuration of every chain, (chains, moments)."""
    s = s.astype(float)
    J = action.couplings["J"].toarray()
    energy = -0.5 * np.einsum("ki,ij,kj->k", s, J, s) - s @ action.couplings["h"]
    pairs = s[:, :, None] * s[:, None, :]
    return np.concatenate([energy[:, None], s, pairs[:, *np.triu_indices(N, 1)]], axis=1)


def run(kind, action, updater, n_chains=512, n_samples=150, seed=5, every=2, **options):
    """Mean over time of each chain's moments, and the last configuration."""
    phi = action.new_field(Graph(N, n_chains))
    key = Key(seed)
    start(phi, "hot", key)
    chains = kind(action, phi, updater, **options)
    chains.load()
    total, t = 0.0, 0
    for _ in range(40):
        chains.sweep(t, key.word)
        t += 1
    for _ in range(n_samples):
        for _ in range(every):
            chains.sweep(t, key.word)
            t += 1
        chains.store()
        total = total + moments(action, 2 * (phi.values > 0) - 1)
    return total / n_samples, phi.values.copy()


def worst(means, expected):
    """Largest |z| of the moments."""
    error = means.std(axis=0, ddof=1) / np.sqrt(len(means))
    return max(abs(z_score((m, e), x)) for m, e, x in zip(means.mean(axis=0), error, expected, strict=True))


@pytest.mark.parametrize("with_h", [False, True], ids=["no-field", "field"])
@pytest.mark.parametrize("updater", ["metropolis", "heatbath"])
@pytest.mark.parametrize("kind", KINDS, ids=lambda k: k.__name__)
def test_small_graphs_agree_with_enumeration(kind, updater, with_h):
    action = action_of(kind, with_h)
    assert worst(run(kind, action, updater)[0], exact(action)) < 4.5


def test_spikes_agree_with_enumeration():
    action = action_of(Lanes)
    A = action.couplings["J"] * -2.0
    I = -2.0 * action.couplings["h"] - np.asarray(A.sum(axis=1)).ravel()
    phi = Neural(A=A, I=I).new_field(Graph(N, 512))
    key = Key(8)
    start(phi, "silent", key)
    chains = Lanes(Neural(A=A, I=I), phi, "heatbath")
    chains.load()
    total = 0.0
    for t in range(340):
        chains.sweep(t, key.word)
        if t >= 40:
            chains.store()
            total = total + moments(action, 2 * phi.values - 1)
    assert worst(total / 300, exact(action)) < 4.5


def test_every_chain_follows_its_own_temperature():
    action = action_of(Lanes)
    beta = np.repeat([0.3, 0.6, 1.0, 1.3], 128)
    means = run(Lanes, action, "metropolis", beta=beta)[0]
    for k, b in enumerate((0.3, 0.6, 1.0, 1.3)):
        assert worst(means[128 * k : 128 * (k + 1)], exact(action, b)) < 4.5


def overlap_z(kind, n_chains=512):
    """z of the mean square overlap of distant chains: independent spins without a field have <(sum_i s_i s'_i)^2>
    = sum_ij <s_i s_j>^2."""
    action = action_of(kind, with_h=False)
    last = [run(kind, action, "heatbath", n_chains, 1, seed, 1)[1].astype(float) for seed in range(40, 52)]
    correlations = exact(action)[1 + N :]
    expected = N + 2 * (correlations**2).sum()
    values = np.array([((s[: n_chains // 2] * s[n_chains // 2 :]).sum(axis=1) ** 2).mean() for s in last])
    return (values.mean() - expected) / (values.std(ddof=1) / np.sqrt(len(values)))


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: k.__name__)
def test_chains_are_independent(kind):
    assert abs(overlap_z(kind)) < 4.5


# --- broken twins


def test_chains_that_share_random_words_are_rejected(monkeypatch):
    right = sparse.lanes_sweep

    def shared(net, state, mask, beta, word0, *rest):
        return sum(
            right(net, state[w : w + 1], mask[w : w + 1], beta[64 * w : 64 * w + 64], word0, *rest)
            for w in range(len(state))
        )

    monkeypatch.setattr(sparse, "lanes_sweep", shared)
    assert abs(overlap_z(Lanes)) > 6


def test_neighbors_of_one_color_are_rejected(monkeypatch):
    right = sparse.color

    def wrong(start_, to, color, scratch):
        n = right(start_, to, color, scratch)
        color[color == 1] = 0  # two colors in one: neighbors are decided together
        return n

    monkeypatch.setattr(sparse, "color", wrong)
    action = action_of(Colored)
    for updater in ("metropolis", "heatbath"):
        assert worst(run(Colored, action, updater)[0], exact(action)) > 6


def test_wrong_thresholds_are_rejected(monkeypatch):
    right = lft.sparse.metropolis_threshold
    # what is always accepted stays so: a factor on all probabilities would keep detailed balance
    monkeypatch.setattr(lft.sparse, "metropolis_threshold", lambda f: p if (p := right(f)) == 2**64 else p * 9 // 10)
    action = action_of(ChainBits)
    assert worst(run(ChainBits, action, "metropolis")[0], exact(action)) > 6


@pytest.mark.parametrize("kind", [Colored, Lanes], ids=lambda k: k.__name__)
def test_probabilities_off_by_a_tenth_are_rejected(kind, monkeypatch):
    right = sparse.Net

    def wrong(*arguments, **options):
        arguments = list(arguments)
        arguments[6] = (arguments[6] * 0.9).astype(np.float32)  # Metropolis: 0.9 p instead of min(1, p)
        return right(*arguments, **options)

    monkeypatch.setattr(sparse, "Net", wrong)
    action = action_of(kind)
    assert worst(run(kind, action, "metropolis")[0], exact(action)) > 6
