"""Nonlinear integrate-and-fire neurons against their exact period under constant input."""

import numpy as np
import pytest
from scipy.integrate import quad

from lft.errors import InputError
from lft.meanfield.neurons import EIF, LIF, NEURONS, QIF, AdEx, prepared
from lft.meanfield.saddle.draws import Draws
from lft.meanfield.saddle.simulate import Runner, check_causality
from lft.rng import Key


def rate(cell, drive, dt=2e-4, duration=2.0):
    """Spikes per second in the second half."""
    n = round(duration / dt)
    y, _ = Runner(prepared(cell, dt), cell.name).run(np.full((n, 2), drive), Draws(Key(1), 2), np.zeros(n))
    times = np.flatnonzero(y[n // 2 :, 0]) * dt
    return (len(times) - 1) / (times[-1] - times[0]) if len(times) > 2 else 0.0


@pytest.mark.parametrize("cell, drive", [
    (QIF(), 8.0), (QIF(refractory=0.003), 20.0), (EIF(), 20.0), (EIF(slope=1.0), 25.0), (AdEx(a=0.0, b=0.0), 20.0)])
def test_period_is_the_time_from_reset_to_peak(cell, drive):
    period = cell.refractory + quad(lambda v: cell.tau / (cell.drift(v) + drive), cell.reset, cell.peak, limit=500)[0]
    assert rate(cell, drive) == pytest.approx(1 / period, rel=6e-3)
    assert rate(cell, drive) != pytest.approx(1 / (period + 0.003), rel=6e-3)


def test_thresholds_of_firing():
    """QIF fires from the drive (critical - rest)^2/(4 slope) on, EIF from critical - rest - slope."""
    cell = QIF()
    edge = (cell.critical - cell.rest) ** 2 / (4 * cell.slope)
    assert rate(cell, 0.95 * edge) == 0.0 and rate(cell, 1.2 * edge) > 0
    cell = EIF()
    edge = cell.critical - cell.rest - cell.slope
    assert rate(cell, 0.97 * edge) == 0.0 and rate(cell, 1.05 * edge, duration=4.0) > 0


def test_adaptation_lowers_the_rate_by_its_mean_current():
    """Slow adaptation: w is b tau_w r on average, which is taken from the drive."""
    cell = AdEx(a=0.0, b=0.2, tau_w=1.0)
    adapted = rate(cell, 25.0, duration=6.0)
    assert adapted == pytest.approx(rate(EIF(), 25.0 - 0.2 * 1.0 * adapted), rel=0.05)


@pytest.mark.parametrize("name", NEURONS)
def test_every_neuron_is_causal_and_repeatable(name):
    cell = NEURONS[name]()
    scale = 400.0 if name in ("lif", "qif", "eif", "adex") else 2.0
    check_causality(prepared(cell, 1e-3 if scale > 2 else 0.1), name, scale, 20.0 if scale > 2 else 0.5)
    assert cell.timescale > 0


def test_parameters_that_cannot_be():
    with pytest.raises(InputError, match="peak = 10"):
        EIF(peak=10.0)
    with pytest.raises(InputError, match="below the threshold"):
        LIF(reset=20.0)
