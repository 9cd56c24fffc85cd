"""From Monte Carlo series to numbers with honest errors: Gamma method, jackknife, bootstrap."""

from lft.analysis.estimate import Estimate, covariance_of_means, estimate, estimate_vector
from lft.analysis.resample import block_means, bootstrap, jackknife

__all__ = ["Estimate", "block_means", "bootstrap", "covariance_of_means", "estimate", "estimate_vector",
           "jackknife"]
