"""Figures of fits of units: which panels a fit has, and what they show."""

import numpy as np
import pytest

from lft.plotting import units
from lft.plotting.units import _strongest, is_of_units, plot_units


@pytest.fixture
def drawn(monkeypatch):
    """The figure instead of its file."""
    kept = []
    monkeypatch.setattr(units, "save", lambda figure, path: kept.append(figure))
    return kept


def with_errors(**arrays):
    return arrays | {f"{name}_error": 0.1 * np.ones_like(a) for name, a in arrays.items()}


RNG = np.random.default_rng(0)
FITS = {
    "pairwise": (with_errors(J=RNG.normal(size=(5, 5)), h=RNG.normal(size=5)), 2),
    "neural": (with_errors(A=np.ones((5, 5)), I=np.ones(5), B=np.ones(2)) | {"lags": np.array([1, 2])}, 3),
    "k-pairwise": (with_errors(J=np.ones((5, 5)), h=np.ones(5), V=np.ones(6)), 3),
    "lagged": (with_errors(J=np.ones((5, 5)), h=np.ones(5), J_lag=np.ones((3, 5, 5))), 4),
    "glm": (with_errors(h=np.ones(5), J_lag=np.full((1, 5, 5), -np.inf)), 2),
    "inputs": (
        with_errors(J=np.ones((5, 5)), h=np.ones(5)) | dict.fromkeys(("input_weights", "input_error"), np.ones((5, 7))),
        3,
    ),
}


@pytest.mark.parametrize("family", FITS)
def test_panels(family, drawn):
    arrays, n_panels = FITS[family]
    assert is_of_units(arrays)
    plot_units(arrays, family, "f.png")
    (figure,) = drawn
    shown = [ax for ax in figure.axes if ax.get_visible() and ax.get_label() != "<colorbar>"]
    assert len(shown) == n_panels and figure.get_suptitle() == family


def test_a_coupling_is_shown_as_it_is_and_pale_where_it_may_be_none(drawn):
    J = np.array([[0.0, 0.5, 0.1], [0.5, 0.0, -0.9], [0.1, -0.9, 0.0]])
    plot_units(with_errors(J=J, h=np.zeros(3)), "", "f.png")
    image = drawn[0].axes[0].images[0]
    assert np.allclose(image.get_array()[~np.eye(3, dtype=bool)], J[~np.eye(3, dtype=bool)])
    assert image.get_clim() == (-0.9, 0.9)
    assert image.get_alpha()[0, 1] == image.get_alpha()[1, 2] == 1 > image.get_alpha()[0, 2]


def test_the_strongest_lag():
    J = np.zeros((3, 2, 2))
    J[:, 0, 1] = [0.2, -0.9, 0.5]
    J[:, 1, 1] = [-np.inf, 0.3, 0.1]
    error = np.full(J.shape, 0.1)
    error[1, 0, 1] = 1.0  # large but uncertain
    value, its_error = _strongest({"J_lag": J, "J_lag_error": error})
    assert value[0, 1] == 0.5 and its_error[0, 1] == 0.1 and value[1, 1] == 0.3


def test_lattices_have_a_list():
    assert not is_of_units({"K": np.ones(3), "h": np.ones((4, 4))})
