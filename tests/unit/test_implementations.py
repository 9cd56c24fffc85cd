"""Which loops run a pair, and that batches, restarts and the choice itself leave the chain alone."""

import numpy as np
import pytest
from scipy.sparse import csr_matrix, save_npz

from lft.actions import Ising, Neural, Pairwise, Phi4
from lft.archive import Archive
from lft.chain import Chain, Schedule
from lft.cli import main
from lft.errors import InputError
from lft.geometry import Graph, Lattice
from lft.implementations import choose
from lft.observables import default_observables
from lft.protocols import State
from lft.rng import Key
from lft.updaters import HMC, HeatBath, Metropolis, start

MASK = np.array([[True, True], [True, False]])
RING = csr_matrix(0.3 * (np.eye(9, k=1) + np.eye(9, k=-1)))
UNEQUAL = csr_matrix(0.3 * (np.eye(9, k=1) + np.eye(9, k=-1)) - 0.1 * (np.eye(9, k=3) + np.eye(9, k=-3)))


def chain_of(action, geometry, updater, kernel="auto", schedule=None):
    phi = action.new_field(geometry)
    start(phi, "hot", Key(5))
    observables = default_observables(action, geometry)
    return Chain(action, updater, State(phi, 0), Key(5), schedule or Schedule(0, 100), observables, kernel=kernel)


@pytest.mark.parametrize(
    ("action", "geometry", "updater", "name"),
    [
        (Ising(0.4), Lattice((16, 64)), Metropolis(), "ising-bits"),
        (Ising((0.4, 0.1, 0.2), h=0.1), Lattice((5, 6, 64), boundary="open"), HeatBath(), "ising-bits"),
        (Ising(0.4), Lattice((16, 63)), Metropolis(), "ising-bits"),
        (Ising(0.4), Lattice((64,)), Metropolis(), "ising-bits"),
        (Ising(0.4, h=0.1), Lattice((63,)), HeatBath(), "ising-bits"),
        (Ising({(1, 1): 0.4}), Lattice((16, 64)), Metropolis(), "generic-ising"),
        (Ising(0.4, h=np.ones((2, 2))), Lattice((2, 2)), HeatBath(), "generic-ising"),
        (Ising(0.4), Lattice((2, 2), mask=MASK), HeatBath(), "generic-ising"),
        (Ising(0.0), Lattice((16, 64)), Metropolis(), "generic-ising"),
        (Phi4(0.1, 0.5), Lattice((8, 8)), HMC(), "phi4-blocked"),
        (Neural(I=np.ones(3)), Graph(3, 8), HeatBath(), "neural-cached"),
        (Pairwise(RING), Graph(9, 7), HeatBath(), "pairwise-colored"),
        (Pairwise(RING), Graph(9, 7), Metropolis(), "generic-pairwise"),  # its ties must be halved
        (Pairwise(UNEQUAL), Graph(9, 7), Metropolis(), "pairwise-colored"),
        (Pairwise(RING), Graph(9, 8), HeatBath(), "pairwise-lanes"),
        (Pairwise(RING), Graph(9, 65), Metropolis(), "pairwise-bits"),
        (Pairwise(UNEQUAL), Graph(9, 128), Metropolis(), "pairwise-lanes"),
        (Neural(UNEQUAL, I=1.0), Graph(9, 200), HeatBath(), "pairwise-lanes"),
        (Neural(RING, B={2: 0.1}), Graph(9, 200), HeatBath(), "neural-cached"),
    ],
)
def test_the_fastest_loops_that_support_a_pair_run_it(action, geometry, updater, name):
    chain = chain_of(action, geometry, updater)
    assert chain.kernel == name
    chain.advance(3)
    assert chain.state.t == 3
    chain.state.phi.check()
    assert chain_of(action, geometry, updater, "generic").kernel == f"generic-{action.name}"
    assert chain_of(action, geometry, updater, name).kernel == name  # as an archive asks for it


def test_a_kernel_that_does_not_fit_is_refused():
    action = Phi4(0.1, 0.5)
    with pytest.raises(InputError, match="kernel 'ising-bits' does not run phi4 with hmc"):
        choose(action, HMC(), action.new_field(Lattice((8, 8))), "ising-bits")


@pytest.mark.parametrize("kernel", ["auto", "generic"])
@pytest.mark.parametrize("updater", [Metropolis(), HeatBath()])
def test_batches_do_not_change_the_chain(updater, kernel):
    action, lattice = Ising((0.4, 0.2), h=0.05), Lattice((7, 66))
    one, many, kept = (chain_of(action, lattice, updater, kernel) for _ in range(3))
    for _ in range(12):
        one.advance()
    many.advance(5)
    many.advance(7)
    kept.advance(5)
    kept.advance(7, is_untouched=True)
    for chain in (one, many, kept):
        chain.collect_counts()
    assert np.array_equal(one.state.phi.data, many.state.phi.data)
    assert np.array_equal(one.state.phi.data, kept.state.phi.data)
    assert one.counters.accepted_total == many.counters.accepted_total == kept.counters.accepted_total > 0


def test_a_field_changed_between_batches_is_noticed():
    action, lattice = Ising(0.4), Lattice((8, 64))
    chain, twin = chain_of(action, lattice, HeatBath()), chain_of(action, lattice, HeatBath())
    chain.advance(2)
    chain.state.phi.values[...] = 1
    chain.state.phi.exchange()
    twin.state.phi.values[...] = 1
    twin.state.phi.exchange()
    twin.state = State(twin.state.phi, 2)
    chain.advance()
    twin.advance()
    assert np.array_equal(chain.state.phi.data, twin.state.phi.data)


def test_events_are_never_jumped_over():
    for thermalize in (0, 1, 7):
        for measure, save in ((1, 0), (3, 0), (4, 6), (50, 7), (5, 100)):
            schedule = Schedule(thermalize, 40, measure, save)
            t = 0
            while t < schedule.total:
                after = schedule.next_event(t)
                events = [s for s in range(t + 1, schedule.total) if schedule.measures(s) or schedule.saves(s)]
                assert after == min([*events, schedule.total])
                t = after


def test_the_archive_keeps_its_kernel(tmp_path):
    text = (
        'seed = 3\n[lattice]\nshape = [8, 64]\n[action]\nname = "ising"\nK = 0.3\n[update]\nname = "heatbath"\n'
        "[run]\nthermalize = 5\nupdates = 20\nmeasure_every = 4\n"
    )
    (tmp_path / "run.toml").write_text(text)
    fields = {}
    for kernel in ("auto", "generic"):
        path = tmp_path / f"{kernel}.h5"
        arguments = [str(tmp_path / "run.toml"), "-o", str(path), "--quiet", "--set", f"update.kernel={kernel}"]
        assert main(["run", *arguments]) == 0
        assert main(["resume", str(path), "--updates", "8", "--quiet"]) == 0
        with Archive(path) as archive:
            fields[kernel] = archive.last()
            assert archive.t == 33
            assert archive.meta["kernel"] == {"auto": "ising-bits", "generic": "generic-ising"}[kernel]
        whole = tmp_path / f"{kernel}-whole.h5"
        arguments[2] = str(whole)
        assert main(["run", *arguments, "--set", "run.updates=28"]) == 0
        with Archive(whole) as archive:
            assert np.array_equal(archive.last(), fields[kernel])
    assert not np.array_equal(fields["auto"], fields["generic"])  # another chain of the same distribution


@pytest.mark.parametrize(
    ("n_chains", "matrix", "name"),
    [(3, UNEQUAL, "pairwise-colored"), (70, UNEQUAL, "pairwise-lanes"), (200, RING, "pairwise-bits")],
    ids=["colored", "lanes", "bits"],
)
def test_sparse_chains_are_resumed_as_if_never_stopped(n_chains, matrix, name, tmp_path):
    save_npz(tmp_path / "J.npz", matrix)
    (tmp_path / "run.toml").write_text(
        f'seed = 3\n[lattice]\nshape = [{n_chains}, 9]\naxes = ["t", "unit"]\n[action]\nname = "pairwise"\n'
        'J = "J.npz"\nh = 0.1\n[run]\nthermalize = 5\nupdates = 20\nmeasure_every = 4\nsave_every = 10\n'
    )
    arguments = ["run", str(tmp_path / "run.toml"), "--quiet", "-o"]
    stopped, whole = str(tmp_path / "stopped.h5"), str(tmp_path / "whole.h5")
    assert main([*arguments, stopped]) == 0
    assert main(["resume", stopped, "--updates", "7", "--quiet"]) == 0
    assert main([*arguments, whole, "--set", "run.updates=27"]) == 0
    with Archive(stopped) as one, Archive(whole) as other:
        assert one.meta["kernel"] == name and one.t == 32
        assert np.array_equal(one.last(), other.last())
        assert not (one.last() == one.last()[0]).all()


def test_sparse_chains_notice_a_changed_field():
    action, graph = Pairwise(UNEQUAL), Graph(9, 40)
    chain, twin = chain_of(action, graph, HeatBath()), chain_of(action, graph, HeatBath())
    for one in (chain, twin):
        one.state.phi.values[...] = 1
    chain.advance(2)
    chain.advance(2, is_untouched=True)
    twin.advance(4)
    assert np.array_equal(chain.state.phi.values, twin.state.phi.values)
    before = chain.state.phi.values.copy()
    chain.state.phi.values[...] = -1
    chain.advance()
    assert chain.kernel == "pairwise-lanes" and not np.array_equal(chain.state.phi.values, before)
    twin.state.phi.values[...] = -1
    twin.advance()
    assert np.array_equal(chain.state.phi.values, twin.state.phi.values)


@pytest.mark.parametrize("updater", [Metropolis(), HeatBath()])
@pytest.mark.parametrize("n_bins", [2, 40])
def test_batches_do_not_change_a_chain_of_cached_fields(updater, n_bins):
    J = np.triu(np.random.default_rng(2).normal(0, 0.1, (70, 70)), 1)
    actions = (Pairwise(J + J.T, h=0.1), Neural(A=J + J.T, B={1: -0.3}, I=np.full(70, 1.0)))
    for action, name in zip(actions, ("pairwise-cached", "neural-cached"), strict=True):
        one, many, kept = (chain_of(action, Graph(70, n_bins), updater) for _ in range(3))
        assert one.kernel == name
        for _ in range(12):
            one.advance()
        many.advance(5)
        many.advance(7)
        kept.advance(5)
        kept.advance(7, is_untouched=True)
        for chain in (many, kept):
            assert np.array_equal(one.state.phi.values, chain.state.phi.values)
