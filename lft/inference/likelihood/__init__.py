"""Gibbs models of 0/1 units: sampling, normalization, and the estimators that need more than the pseudo-likelihood."""

from lft.inference.likelihood.model import GibbsModel, from_arrays, from_fit, load_model

__all__ = ["GibbsModel", "from_arrays", "from_fit", "load_model"]
