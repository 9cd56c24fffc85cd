"""Gibbs models of 0/1 units: sampling, normalization, and the estimators that need more than the pseudo-likelihood."""

from lft.inference.likelihood.boltzmann import fit_boltzmann
from lft.inference.likelihood.exact_fit import fit_exact
from lft.inference.likelihood.model import GibbsModel, from_arrays, from_fit, load_model
from lft.inference.likelihood.normalization import log_likelihood, log_z_difference, normalization

__all__ = [
    "GibbsModel",
    "fit_boltzmann",
    "fit_exact",
    "from_arrays",
    "from_fit",
    "load_model",
    "log_likelihood",
    "log_z_difference",
    "normalization",
]
