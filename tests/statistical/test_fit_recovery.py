"""Fits recover known couplings, and their errors are right: z = (fit - truth) / error is N(0, 1).

Each law stands beside the mutants it must catch: errors from the inverse information (which treats the two
ends of a bond as independent data), and couplings that are a tenth too large.
"""

import itertools

import numpy as np
import pytest

from lft.field import Field
from lft.geometry import Lattice
from lft.inference import newton
from lft.inference.lattice_fit import fit_lattice
from lft.inference.neural_fit import fit_neural, fit_pairwise

LIMIT = 4.5


def defects(z):
    """How many sigmas the mean and the variance of z are from 0 and 1."""
    z = np.ravel(z)
    return abs(z.sum()) / np.sqrt(z.size), abs((z**2).sum() - z.size) / np.sqrt(2 * z.size)


# ---- lattice: checkerboard heat bath on an even torus
def gibbs_lattice(rng, shape, k, h, sweeps):
    """Spins of shape (x, y, t), all axes periodic and even; ``h`` (x, y)."""
    s = np.where(rng.random(shape) < 0.5, 1, -1).astype(np.int8)
    color = sum(np.indices(shape)) % 2
    for sweep in range(2 * sweeps):
        eta = np.broadcast_to(h[:, :, None], shape).copy()
        for axis, value in enumerate(k):
            eta += value * (np.roll(s, 1, axis) + np.roll(s, -1, axis))
        fresh = np.where(rng.random(shape) * (1 + np.exp(-2 * eta)) < 1, 1, -1)
        s = np.where(color == sweep % 2, fresh, s).astype(np.int8)
    return s


def lattice_z(rng, n_sets, shape, sweeps, **options):
    """z of couplings and site fields, and relative errors of the couplings, of independent data sets."""
    k = np.array([0.15, 0.1, 0.2])
    h = rng.normal(-0.25, 0.1, shape[:2])
    lattice = Lattice(shape, ("x", "y", "t"))
    z_k, z_h, errors = [], [], []
    for _ in range(n_sets):
        field = Field.from_array(lattice, "spin", gibbs_lattice(rng, shape, k, h, sweeps))
        fit = fit_lattice(field, test=0.2, **options)
        value, error = np.array(list(fit.couplings.values())).T
        z_k.append((value - k) / error)
        z_h.append((fit.h - h) / fit.h_error)
        errors.append(error / k)
    return np.array(z_k), np.array(z_h), np.array(errors)


def inverse_information(information, scores):
    """The mutant: rows whose U^T U is H^-1, as if every conditional probability were an independent datum."""
    n = len(scores[0])
    covariance = information.solve(np.eye(n))
    return np.linalg.cholesky((covariance + covariance.T) / 2).T


def test_lattice_couplings_and_errors(monkeypatch):
    rng = np.random.default_rng(12)
    z, z_h, relative = lattice_z(rng, 40, (8, 8, 160), 40, n_blocks=64)
    assert max(defects(z)) < LIMIT
    assert max(defects(z_h)) < LIMIT + 2  # the sites of one data set share the K: correlated
    assert max(defects(z + 0.1 / relative)) > LIMIT  # couplings a tenth too large
    monkeypatch.setattr(newton, "influences", inverse_information)
    z, _, _ = lattice_z(np.random.default_rng(12), 40, (8, 8, 160), 40, n_blocks=64)
    assert defects(z)[1] > LIMIT


@pytest.mark.validate
def test_lattice_calibration_over_many_sets():
    z, _, relative = lattice_z(np.random.default_rng(1), 150, (16, 16, 400), 50)
    assert max(defects(z)) < LIMIT
    assert relative.mean() < 0.05
    assert defects(z + 0.1 / relative)[0] > 4 * LIMIT
    kurtosis = (z**4).mean() / (z**2).mean() ** 2
    assert abs(kurtosis - 3) < LIMIT * np.sqrt(24 / z.size)


@pytest.mark.validate
def test_many_site_fields_bias_the_coupling_in_time():
    """The mutant of the jackknife: without it K[0,0,1] is a whole error too small on this lattice."""
    z, _, _ = lattice_z(np.random.default_rng(2), 60, (16, 16, 400), 50, bias_correction=False)
    assert defects(z[:, 2])[0] > LIMIT
    z, _, _ = lattice_z(np.random.default_rng(2), 60, (16, 16, 400), 50)
    assert defects(z[:, 2])[0] < LIMIT


# ---- pairwise: exact samples by enumeration
def pairwise_problem(rng, n, scale=0.25, h_range=(-1.0, -0.2)):
    j = np.triu(rng.normal(0, np.sqrt(scale / n), (n, n)), 1)
    j, h = j + j.T, rng.uniform(*h_range, n)
    words = np.array(list(itertools.product((0, 1), repeat=n)), np.int8)
    s = 2.0 * words - 1
    weight = 0.5 * np.einsum("wi,ij,wj->w", s, j, s) + s @ h
    return j, h, words, np.exp(weight - np.logaddexp.reduce(weight))


def pairwise_z(rng, n_sets, n, n_bins):
    upper = np.triu_indices(n, 1)
    z_j, z_h, shift = [], [], []
    for _ in range(n_sets):
        j, h, words, probability = pairwise_problem(rng, n)
        raster = words[rng.choice(len(words), n_bins, p=probability)]
        fit = fit_pairwise(raster, test=0)
        error = fit.J_error[upper]
        z_j.append((fit.J - j)[upper] / error)
        z_h.append((fit.h - h) / fit.h_error)
        shift.append(0.1 * j[upper] / error)
    return np.array(z_j), np.array(z_h), np.array(shift)


def test_pairwise_couplings_and_errors(monkeypatch):
    z_j, z_h, shift = pairwise_z(np.random.default_rng(3), 8, 8, 20000)
    assert max(defects(z_j)) < LIMIT and max(defects(z_h)) < LIMIT
    assert defects(z_j + shift)[1] > LIMIT  # couplings a tenth too large: signs differ, the variance tells
    monkeypatch.setattr("lft.inference.newton.influences", inverse_information)
    z_j, _, _ = pairwise_z(np.random.default_rng(3), 8, 8, 20000)
    assert defects(z_j)[1] > LIMIT


@pytest.mark.validate
def test_pairwise_calibration_over_many_sets():
    z_j, z_h, _ = pairwise_z(np.random.default_rng(5), 60, 10, 20000)
    # an error from 100 blocks makes z a t variable of 99 degrees of freedom: variance 99/97
    scale = np.sqrt(97 / 99)
    assert max(defects(z_j * scale)) < LIMIT and max(defects(z_h * scale)) < LIMIT


# ---- neural: exact samples with memory by the transfer matrix
def chain_samples(rng, a, b, i, n_bins, n_sets):
    """Exact rasters (sets, T, N) of (A, B(1) = b, I), open time: backward weights, then forward draws."""
    words = np.array(list(itertools.product((0, 1), repeat=len(i))))
    local = np.exp(-np.einsum("wi,ij,wj->w", words, a, words) - words @ i)
    step = np.exp(-2 * b * words @ words.T)
    beyond = np.ones((n_bins, len(words)))
    for t in range(n_bins - 2, -1, -1):
        beyond[t] = step @ (local * beyond[t + 1])
        beyond[t] /= beyond[t].sum()
    out = np.empty((n_sets, n_bins), int)
    weight = np.broadcast_to(local * beyond[0], (n_sets, len(words)))
    for t in range(n_bins):
        if t:
            weight = step[out[:, t - 1]] * local * beyond[t]
        cumulative = np.cumsum(weight, axis=1)
        out[:, t] = (cumulative < rng.random((n_sets, 1)) * cumulative[:, -1:]).sum(axis=1)
    return words[out].astype(np.int8)


def neural_z(rng, n_sets, n_bins):
    n, b = 4, -0.5
    a = np.triu(rng.normal(-0.1, 0.2, (n, n)), 1)
    a, i = a + a.T, rng.uniform(1.0, 2.0, n)
    upper, z, z_b, gains = np.triu_indices(n, 1), [], [], []
    for raster in chain_samples(rng, a, b, i, n_bins, n_sets):
        fit = fit_neural(raster, lags=(1, 2))
        z.append(np.concatenate([(fit.A - a)[upper] / fit.A_error[upper], (fit.I - i) / fit.I_error]))
        z_b.append([(fit.B[1] - b) / fit.B_error[1], fit.B[2] / fit.B_error[2], 0.1 * b / fit.B_error[1]])
        gains.append(fit.gain)
    return np.array(z), np.array(z_b), np.array(gains)


def test_memory_is_recovered():
    z, z_b, gains = neural_z(np.random.default_rng(8), 24, 4000)
    assert max(defects(z)) < LIMIT and max(defects(z_b[:, :2])) < LIMIT
    assert defects(z_b[:, 0] + z_b[:, 2])[0] > LIMIT
    assert np.all(
        gains[:, 0] > 3 * gains[:, 1]
    )  # the gain over independent units is significant in every set


@pytest.mark.validate
def test_memory_calibration_over_many_sets():
    z, z_b, gains = neural_z(np.random.default_rng(9), 400, 6000)
    scale = np.sqrt(97 / 99)
    assert max(defects(z_b[:, :2] * scale)) < LIMIT
    assert max(defects(z * scale)) < LIMIT + 2  # ten parameters of one set are correlated
    spread = gains[:, 0].std() / np.sqrt((gains[:, 1] ** 2).mean())
    assert abs(spread - 1) < LIMIT * np.sqrt(0.5 / 400) * 1.5
