"""Fits by exact likelihood, Boltzmann learning, mean-field inversions and minimum probability flow."""

from __future__ import annotations

from pathlib import Path

from lft.archive import on_root
from lft.commands.fit_pseudo import binned_raster
from lft.commands.recordings import parse_reach
from lft.errors import InputError
from lft.inference.likelihood import fit_boltzmann, fit_exact, fit_mean_field, fit_probability_flow


def fit_exactly(recording, bin_s, args):
    """``exact``: pairwise, k-pairwise, neural, lagged."""
    raster, lags = _binned(recording, bin_s, args)
    options = {"test": args.test, "ridge": args.ridge, "bin_s": raster.bin_s, "unit": raster.unit}
    return fit_exact([raster.values], model=args.model, lags=lags, k_max=len(lags), **options), raster.report


def fit_by_boltzmann(recording, bin_s, args, comm=None):
    """``boltzmann``: pairwise, k-pairwise, neural, lagged; ranks share the chains.

    What is found is kept in ``OUTPUT.search``: the same command goes on after a kill, and the file goes when the fit is
    done.
    """
    held = []
    on_root(comm, lambda: held.append(_binned(recording, bin_s, args)))
    raster, lags = held.pop() if held else (None, None)
    values, lags, bin_s, unit = on_root(comm, lambda: (raster.values, lags, raster.bin_s, raster.unit))
    fit = fit_boltzmann(
        [values], model=args.model, lags=lags, k_max=len(lags), test=args.test, ridge=args.ridge,
        accuracy=args.accuracy, seed=args.seed, bin_s=bin_s, unit=unit, comm=comm,
        checkpoint=Path(f"{args.output}.search"),
    )  # fmt: skip
    return fit, None if raster is None else raster.report


fit_by_boltzmann.is_parallel = True


def fit_by_inversion(recording, bin_s, args):
    """``mean-field``, ``tap``, ``sessak-monasson``, ``bethe``: pairwise."""
    _refuse_ridge(args)
    raster, _ = _binned(recording, bin_s, args)
    options = {"test": args.test, "bin_s": raster.bin_s, "unit": raster.unit}
    return fit_mean_field([raster.values], method=args.method, **options), raster.report


def fit_by_flow(recording, bin_s, args):
    """``mpf``: pairwise."""
    raster, _ = _binned(recording, bin_s, args)
    options = {"test": args.test, "ridge": args.ridge, "bin_s": raster.bin_s, "unit": raster.unit}
    return fit_probability_flow([raster.values], **options), raster.report


def _refuse_ridge(args):
    if args.ridge:
        raise InputError(f"--ridge {args.ridge:g}: the method {args.method} has no penalty; valid is 0")


def _binned(recording, bin_s, args):
    """(raster, lags): TIME of ``--reach`` is the longest lag of ``neural`` and ``lagged``."""
    longest = parse_reach(args.reach, args.diagonals)[1]
    raster = binned_raster(recording, bin_s, args.model, args.reach, longest)
    return raster, tuple(range(1, longest + 1))
