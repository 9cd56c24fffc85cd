"""Every action on every geometry: S, its operators, its differences, its force, its symmetries."""

import itertools

import numpy as np
import pytest
from cases import BINARY, CASES, LATTICES, REAL, name_of

from lft._kernels import binary
from lft.actions import Ising, Neural, Pairwise, Phi4
from lft.errors import InputError
from lft.geometry import Graph, Lattice
from lft.gibbs import ACTIONS, KPairwise, Lagged

every_case = pytest.mark.parametrize("case", CASES, ids=name_of)
binary_case = pytest.mark.parametrize("case", BINARY, ids=name_of)
real_case = pytest.mark.parametrize("case", REAL, ids=name_of)


def close(a, b, scale=1.0):
    return np.allclose(a, b, rtol=0, atol=1e-12 * max(1.0, np.max(np.abs(scale), initial=0)))


def test_the_walk_visits_every_action():
    assert {c.action.name for c in CASES} == set(ACTIONS)


# --- the action


@every_case
def test_action_agrees_with_the_oracle_and_with_the_twin(case):
    for seed in range(3):
        phi = case.new_field(seed)
        S = case.oracle(phi.array())
        assert close(case.action.S(phi), S, S)
        assert close(case.S(case.active(phi)), S, S)


@every_case
def test_action_is_the_sum_of_couplings_times_operators(case):
    phi = case.new_field()
    S, total = case.action.S(phi), 0.0
    operators = case.action.operators(phi)
    assert set(operators) == set(case.action.couplings)
    for name, g in case.action.couplings.items():
        O = operators[name]
        if g is None:
            continue
        if isinstance(g, dict):
            assert set(O) == set(g)
            total += sum(g[k] * O[k] for k in g)
        elif hasattr(g, "multiply"):
            assert O.shape == g.shape
            total += g.multiply(O).sum()
        else:
            assert np.shape(O) == np.shape(g)
            total += np.sum(np.multiply(g, O))
    assert close(total, S, S)


@every_case
def test_operators_are_the_derivatives_of_the_action(case):
    # S is linear in each scalar coupling: an exact difference
    phi = case.new_field()
    S, operators = case.action.S(phi), case.action.operators(phi)
    for name, g in case.action.couplings.items():
        if isinstance(g, dict):
            for key in g:
                moved = case.action.with_couplings(**{name: {**g, key: g[key] + 0.5}})
                assert close(2 * (moved.S(phi) - S), operators[name][key], S)
        elif isinstance(g, float) and name != "unit":
            moved = case.action.with_couplings(**{name: g + 0.5})
            assert close(2 * (moved.S(phi) - S), operators[name], S)
        elif isinstance(g, tuple):
            for k in range(len(g)):
                moved = case.action.with_couplings(
                    **{name: tuple(v + 0.5 * (i == k) for i, v in enumerate(g))}
                )
                assert close(2 * (moved.S(phi) - S), operators[name][k], S)


def test_a_wrong_coupling_is_noticed():
    # mutant: two per cent on one coupling of the kernel; the comparisons above see it where there are bonds
    seen = 0
    for case in CASES:
        if not np.any(case.J):
            continue
        name = {"ising": "K", "phi4": "kappa", "neural": "B", "pairwise": "h", "k-pairwise": "V", "lagged": "J_lag"}
        name = name[case.action.name]
        g = case.action.couplings[name]
        if isinstance(g, tuple | float) or case.id in ("k-pairwise-wide", "lagged-wide"):
            wrong = case.action.with_couplings(
                **{name: tuple(1.02 * np.atleast_1d(g)) if isinstance(g, tuple) else 1.02 * g}
            )
            differences = [
                wrong.S(case.new_field(s)) - case.oracle(case.new_field(s).array()) for s in range(3)
            ]
            assert not close(differences, 0.0)
            seen += 1
    assert seen > 50


# --- differences and force


@binary_case
def test_raising_is_the_difference_of_the_action_at_every_site(case):
    phi = case.new_field(2)
    kernel, _ = case.action.bind(phi)
    p, q, _ = case.addresses(phi)
    found = binary.raising(kernel, phi.data.reshape(-1), p, q)
    array, (low, high) = phi.array(), case.low_high
    expected = []
    for x in np.argwhere(case.mask):
        up, down = array.copy(), array.copy()
        up[tuple(x)], down[tuple(x)] = high, low
        expected.append(case.oracle(up) - case.oracle(down))
    assert close(found, expected, case.oracle(array))


@real_case
def test_site_dS_is_the_difference_of_the_action_at_every_site(case):
    phi = case.new_field(2)
    kernel, _ = case.action.bind(phi)
    p, q, _ = case.addresses(phi)
    new = np.random.default_rng(3).normal(0, 1.5, len(p))
    found = case.action.loops.site_dS(kernel, phi.data.reshape(-1), p, q, new)
    array, expected = phi.array(), []
    for k, x in enumerate(np.argwhere(case.mask)):
        moved = array.copy()
        moved[tuple(x)] = new[k]
        expected.append(case.oracle(moved) - case.oracle(array))
    assert close(found, expected, expected)


@every_case
def test_differences_add_up_along_a_path(case):
    # single-site moves one after the other: the sum of the local differences is S_new - S_old
    phi = case.new_field(4)
    kernel, _ = case.action.bind(phi)
    p, q, _ = case.addresses(phi)
    flat, before, total = phi.data.reshape(-1), case.action.S(phi), 0.0
    rng = np.random.default_rng(5)
    scale = abs(before)
    for i in rng.integers(0, len(p), 30):
        where = p[i : i + 1], q[i : i + 1]
        if case.is_real:
            new = rng.normal(0, 1.5, 1)
            step = case.action.loops.site_dS(kernel, flat, *where, new)[0]
            flat[p[i]] = new[0]
        else:
            low, high = case.low_high
            step = binary.raising(kernel, flat, *where)[0] * (1 if flat[p[i]] == low else -1)
            flat[p[i]] = low + high - flat[p[i]]
        phi.exchange()
        total, scale = total + step, scale + abs(step)
    assert close(case.action.S(phi) - before, total, scale)


@real_case
def test_force_is_the_fourth_order_difference_of_the_action(case):
    # exact for a quartic: no truncation error at any step
    phi = case.new_field(6)
    force = phi.geometry.from_storage(case.action.force(phi))
    array, h = phi.array(), 0.25
    expected = np.zeros(array.shape)
    for x in map(tuple, np.argwhere(case.mask)):
        S = {}
        for k in (-2, -1, 1, 2):
            moved = array.copy()
            moved[x] += k * h
            S[k] = case.oracle(moved)
        expected[x] = -(8 * (S[1] - S[-1]) - (S[2] - S[-2])) / (12 * h)
    assert np.allclose(force, expected, rtol=0, atol=1e-11 * max(1, abs(case.oracle(array))))
    assert close(force[case.mask], case.force(case.active(phi)), force)
    assert not force[~case.mask].any()


@every_case
def test_absent_sites_are_never_read(case):
    # whatever stands at an inactive site on entry is removed, and S does not know how many sites are missing
    array = case.new_field().array()
    fields = [
        type(case.new_field()).from_array(
            case.geometry,
            case.action.kind,
            np.where(case.mask, array, junk),
            case.action.new_field(case.geometry).domain,
        )
        for junk in (0, 1)
    ]
    assert fields[0].data.tobytes() == fields[1].data.tobytes()
    assert case.action.S(fields[0]) == case.action.S(fields[1])


# --- symmetries


@pytest.mark.parametrize("case", [c for c in CASES if c.action.name == "ising"], ids=name_of)
def test_flipping_all_spins_and_the_field_changes_nothing(case):
    phi = case.new_field()
    S = case.action.S(phi)
    phi.data[...] *= -1
    flipped = case.action.with_couplings(h=-np.asarray(case.action.couplings["h"]))
    assert close(flipped.S(phi), S, S)
    if np.any(case.action.couplings["h"]) and case.action.site_sum(phi):
        assert not close(case.action.with_couplings(h=1.0).S(phi), flipped.with_couplings(h=-1.0).S(phi), 1)


@real_case
def test_the_sign_of_a_real_field_is_free(case):
    phi = case.new_field()
    S, force = case.action.S(phi), case.action.force(phi).copy()
    phi.data[...] *= -1
    assert case.action.S(phi) == S
    assert np.array_equal(case.action.force(phi), -force)


@pytest.mark.parametrize(
    "name", [n for n, g in LATTICES.items() if set(g.boundary) == {"periodic"} and g.mask is None]
)
def test_translation_on_a_torus_changes_nothing(name):
    lattice = LATTICES[name]
    rng = np.random.default_rng(7)
    for case in CASES:
        if case.geometry is not lattice or np.ndim(case.action.couplings.get("h", 0)):
            continue
        array = case.new_field().array()
        domain = case.action.new_field(lattice).domain
        S = case.oracle(array)
        for _ in range(3):
            shift = tuple(int(s) for s in rng.integers(0, 9, array.ndim))
            moved = case.new_field().from_array(
                lattice, case.action.kind, np.roll(array, shift, range(array.ndim)), domain
            )
            assert close(case.action.S(moved), S, S)


@pytest.mark.parametrize("case", [c for c in CASES if isinstance(c.geometry, Graph)], ids=name_of)
def test_units_have_no_order(case):
    phi = case.new_field()
    order = np.random.default_rng(8).permutation(case.geometry.n_units)
    moved = {}
    for name, value in case.action.couplings.items():
        if name in ("A", "J", "J_lag") and value is not None:
            moved[name] = value[order][:, order] if name != "J_lag" else value[:, order][:, :, order]
        elif name == "V":
            moved[name] = value
        else:
            moved[name] = value[order] if np.ndim(value) else value
    action = case.action.with_couplings(**moved)
    moved = phi.from_array(
        case.geometry, case.action.kind, phi.array()[:, order], action.new_field(case.geometry).domain
    )
    assert close(action.S(moved), case.action.S(phi), case.action.S(phi))


@pytest.mark.parametrize(
    "case",
    [c for c in CASES if isinstance(c.geometry, Lattice) and c.geometry.mask is None and len(c.geometry.shape) > 1],
    ids=name_of,
)
def test_the_order_of_the_axes_is_only_a_name(case):
    g, c = case.geometry, case.action.couplings
    array = case.new_field().array()
    name = "K" if case.action.name == "ising" else "kappa"
    for order in list(itertools.permutations(range(len(g.shape))))[1:6]:

        def pick(values, order=order):
            return tuple(values[i] for i in order)

        turned = Lattice(pick(g.shape), pick(g.axes), pick(g.boundary))
        bonds = c[name]
        bonds = (
            {pick(d): k for d, k in bonds.items()}
            if isinstance(bonds, dict)
            else pick(bonds)
            if isinstance(bonds, tuple)
            else bonds
        )
        changes = {name: bonds}
        if np.ndim(c.get("h", 0)):
            space = [a for a in g.axes if a != "t"]
            changes["h"] = np.transpose(c["h"], [space.index(a) for a in turned.space_axes])
        action = case.action.with_couplings(**changes)
        phi = case.new_field().from_array(
            turned, action.kind, np.transpose(array, order), action.new_field(turned).domain
        )
        S = case.oracle(array)
        assert close(action.S(phi), S, S)


def test_dense_and_sparse_couplings_are_the_same_action():
    pairs = [(c, d) for c, d in itertools.pairwise(CASES) if c.id.replace("-dense-", "-sparse-") == d.id != c.id]
    assert len(pairs) > 9
    for dense, sparse in pairs:
        phi = dense.new_field()
        a, b = dense.action.operators(phi), sparse.action.operators(phi)
        matrix, vector = ("A", "I") if dense.action.name == "neural" else ("J", "h")
        pattern = sparse.action.couplings[matrix].toarray() != 0
        assert np.array_equal(b[matrix].toarray(), np.where(pattern, a[matrix], 0))
        assert np.array_equal(a[vector], b[vector])


# --- what is refused


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Ising(K=float("nan")), "finite"),
        (lambda: Ising(K=[[1.0]]), "one number, or one per axis"),
        (lambda: Ising(K=0.1, h=float("inf")), "finite"),
        (lambda: Ising(K=0.1).with_couplings(J=1.0), "'J' of ising: valid are K, h"),
        (lambda: Ising(K=(0.1, 0.2)).new_field(Lattice((4, 4, 4))), r"2 values but the lattice has 3 axes"),
        (lambda: Ising(K={(1, 0): 0.1}).new_field(Lattice((4,))), "nonzero vector of 1"),
        (lambda: Ising(K={(3, 0): 0.1}).new_field(Lattice((5, 5))), "needs at least 6"),
        (
            lambda: Ising(K=0.1, h=np.zeros(3)).S(Ising(K=0.1).new_field(Lattice((4, 4)))),
            r"h has shape \(3,\)",
        ),
        (lambda: Ising(K=0.1).new_field(Graph(3, 4)), "lives on a Lattice, not on a Graph"),
        (lambda: Neural(B={1: 0.1}).new_field(Lattice((4, 4))), "lives on a Graph, not on a Lattice"),
        (lambda: Phi4(kappa=0.1, lam=-1.0), "lambda = -1"),
        (lambda: Phi4(kappa=0.1, lam=0.5, unit=2.0), "1 by convention"),
        (lambda: Neural(A=np.array([[0, 1.0], [2.0, 0]])), "not symmetric"),
        (lambda: Neural(A=np.eye(2)), "nonzero diagonal"),
        (lambda: Neural(A=np.zeros((2, 3))), "square"),
        (lambda: Neural(A=np.full((2, 2), np.nan)), "finite"),
        (lambda: Pairwise(J=np.array([[0, 1.0], [2.0, 0]])), "J is not symmetric"),
        (lambda: Pairwise(J=np.eye(2)), "J has a nonzero diagonal: one-body terms belong to h"),
        (lambda: Pairwise(J=None), "J = None"),
        (lambda: KPairwise(V=1.0), r"V has shape \(\)"),
        (lambda: KPairwise(V=[0.0, np.nan]), "finite"),
        (lambda: KPairwise(V=np.zeros(4)).S(KPairwise(V=np.zeros(3)).new_field(Graph(2, 3))), "V has 4 values, for 3"),
        (lambda: KPairwise(V=np.zeros(3), A=np.array([[0, 1.0], [2.0, 0]])), "not symmetric"),
        (lambda: Lagged(J_lag=np.zeros((2, 2))), "lags, units, units"),
        (lambda: Lagged(J_lag=np.zeros((65, 2, 2))), "at most 64"),
        (lambda: Lagged(J_lag=np.zeros((1, 2, 2)), I=np.zeros((2, 2))), "I has shape"),
        (lambda: Lagged(np.zeros((1, 2, 2))).S(Lagged(np.zeros((1, 3, 3))).new_field(Graph(3, 3))), "2 units"),
        (
            lambda: Lagged(np.zeros((3, 2, 2))).S(Lagged(np.zeros((3, 2, 2))).new_field(Graph(2, 5, "periodic"))),
            "lag 3 on periodic time of 5 bins needs at least 6",
        ),
        (lambda: Pairwise(J=np.zeros((2, 2)), h=np.zeros((2, 2))), "h has shape"),
        (lambda: Pairwise(J=np.zeros((3, 3))).S(Pairwise(J=np.zeros((2, 2))).new_field(Graph(2, 4))), "J has 3 units"),
        (lambda: Neural(B={0: 0.1}), "lag 0"),
        (lambda: Neural(B={1: np.inf}), "finite"),
        (
            lambda: Neural(A=np.zeros((3, 3))).S(Neural().new_field(Graph(2, 4))),
            r"A has shape \(3, 3\), the graph has 2",
        ),
        (
            lambda: Neural(I=np.zeros(3)).S(Neural().new_field(Graph(2, 4))),
            r"I has shape \(3,\), the graph has 2",
        ),
        (
            lambda: Neural(B={2: 0.1}).S(Neural(B={2: 0.1}).new_field(Graph(2, 3, "periodic"))),
            "needs at least 4",
        ),
    ],
)
def test_what_cannot_be_simulated_is_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_a_field_with_too_narrow_a_halo_is_refused():
    phi = Ising(K=0.1).new_field(Lattice((6, 6)))
    with pytest.raises(InputError, match=r"halo of \(1, 1\), action ising needs \(2, 0\)"):
        Ising(K={(2, 0): 0.1}).S(phi)


def test_more_than_64_displacements_are_refused():
    action = Ising(K={(d,): 0.01 for d in range(1, 66)})
    with pytest.raises(ValueError, match="65 displacements: valid are at most 64"):
        action.S(action.new_field(Lattice((200,))))
