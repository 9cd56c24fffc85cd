"""Figures, one module per kind of result; :mod:`lft.plotting.figure` alone imports matplotlib."""

from lft.plotting.chains import plot_archive
from lft.plotting.correlators import plot_comparison, plot_correlators
from lft.plotting.figure import check_figure_path
from lft.plotting.fits import plot_fit, plot_rates, plot_recovery
from lft.plotting.flows import plot_exponents, plot_flow, plot_flow_field, plot_matching
from lft.plotting.inverse import plot_inverse
from lft.plotting.phenomenological import plot_phenomenological
from lft.plotting.scaling import plot_scaling

__all__ = [
    "check_figure_path",
    "plot_archive",
    "plot_comparison",
    "plot_correlators",
    "plot_exponents",
    "plot_fit",
    "plot_flow",
    "plot_flow_field",
    "plot_inverse",
    "plot_matching",
    "plot_phenomenological",
    "plot_rates",
    "plot_recovery",
    "plot_scaling",
]
