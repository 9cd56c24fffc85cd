"""The fast ways of causal fits against the plain ones: compiled logistic terms, and first steps without the Hessian."""

import numpy as np
import pytest

from lft import links
from lft._kernels import lagged
from lft.inference.causal import approach as first_steps
from lft.inference.causal import fit as causal_fit
from lft.inference.causal.design import Batch
from lft.inference.causal.fit import fit_kinetic
from lft.inference.causal.model import CausalModel
from lft.inference.inputs import InputDesign, Smooth
from tests.unit.test_causal import rasters_of


def test_logistic_terms():
    """Against NumPy, in the range of rounding and beyond; rows that are not fitted are 0."""
    rng = np.random.default_rng(0)
    eta = rng.normal(-2, 3, (1300, 8))
    eta[0] = [0.0, -0.0, 800.0, -800.0, 40.0, -40.0, 1e-9, -1e-9]
    eta[1] = [709.0, -709.0, 700.0, -700.0, 36.8, -36.8, 1.0, -1.0]
    fits = (rng.random(1300) < 0.9).astype(np.uint8)
    fits[:2] = 1
    y = (rng.random((1300, 8)) < 0.2) & (fits[:, None] > 0)
    row, lane = (part.astype(kind) for part, kind in zip(np.nonzero(y), (np.int32, np.uint8), strict=True))
    r, w, value = np.full((1300, 8), 9.0), np.full((1300, 8), 9.0), np.zeros(8)
    lagged.logit(0, 1300, fits, eta, row, lane, r, w, value)
    kept = fits > 0
    v0, r0, w0 = links.terms("logit", eta[kept], y[kept].astype(float))
    assert np.allclose(value, v0, rtol=1e-13)  # 1300 roundings of 1e-16
    assert not r[~kept].any() and not w[~kept].any()
    assert np.abs(r[kept] - r0).max() < 4e-16
    seen = w0 > 1e-300
    assert np.abs(w[kept][seen] / w0[seen] - 1).max() < 4e-15 and w[kept][~seen].max() < 1e-300


def big(kind, n=30, bins=6000):
    """A network whose units share a drive (``driven``), or do not."""
    rng = np.random.default_rng(1)
    J = rng.normal(0, 0.3 / np.sqrt(n), (1, n, n))
    raster = CausalModel.of_spins(np.full(n, -1.3), J).simulate(bins, seed=2)[0]
    if kind == "driven":
        shared = np.repeat(rng.random(bins // 10) < 0.2, 10)
        raster |= (shared[:, None] & (rng.random((bins, n)) < 0.3)).astype(np.int8)
    return raster


@pytest.mark.parametrize("kind", ["independent", "driven"])
@pytest.mark.parametrize("ridge", [0.0, 3.0])
def test_first_steps_lead_to_the_same_maximum(kind, ridge, monkeypatch):
    raster, count = big(kind), [0]
    options = {"n_lags": 2, "ridge": ridge, "test": 0.1, "inputs": InputDesign([Smooth(4)])}
    matrix = Batch.hessian

    def counted(self):
        count[0] += 1
        return matrix(self)

    monkeypatch.setattr(Batch, "hessian", counted)
    plain = fit_kinetic(raster, **options)
    before, count[0] = count[0], 0
    monkeypatch.setattr(first_steps, "MIN_PARAMETERS", 0)
    quick = fit_kinetic(raster, **options)
    for name in ("h", "J_lag", "J_lag_error", "input_weights"):
        size = np.nanmax(np.abs(plain.arrays()[name]))
        # errors are those of a point where the gain left is below 1e-8: its distance in errors is 1e-4
        limit = 1e-5 if name.endswith("error") else 1e-6
        assert np.nanmax(np.abs(quick.arrays()[name] - plain.arrays()[name])) < limit * size, name
    assert kind == "driven" or count[0] < before / 2


def test_first_steps_never_go_down(monkeypatch):
    """Steps ten times too long, and in the wrong direction, are refused: the start of the exact steps is no worse."""
    monkeypatch.setattr(first_steps, "MIN_PARAMETERS", 0)
    raster, step, exact = big("independent", bins=3000), first_steps._step, causal_fit.maximize_batch
    values = {}
    for name, factor in (("none", 0.0), ("right", 1.0), ("long", 10.0), ("back", -1.0)):
        seen = values.setdefault(name, [])

        def started(batch, theta, *rest, seen=seen):
            seen.append(batch.evaluate(theta)[0][: batch.n_lanes])
            return exact(batch, theta, *rest)

        monkeypatch.setattr(first_steps, "_step", lambda *args, factor=factor: factor * step(*args))
        monkeypatch.setattr(causal_fit, "maximize_batch", started)
        fit_kinetic(raster)
    start = {name: np.concatenate(seen) for name, seen in values.items()}
    assert (start["right"] > start["none"] + 0.5).all()
    assert (start["long"] >= start["none"]).all() and (start["back"] == start["none"]).all()


def test_counts_do_not_take_the_first_steps():
    """Their squares are not themselves."""
    task, _, _ = causal_fit.make_task(rasters_of("poisson"), *[causal_fit.make_basis("identity", 1, 1)] * 2, "poisson")
    assert not task.design.is_binary and not first_steps.serves(task.design)
    task, _, _ = causal_fit.make_task(rasters_of("logit"), *[causal_fit.make_basis("identity", 1, 1)] * 2, "logit")
    assert task.design.is_binary
