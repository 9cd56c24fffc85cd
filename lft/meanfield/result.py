"""Solutions of a mean-field theory: every quantity with its error, as JSON, as a table, and in a file.

``MF.h5``: root attributes ``schema = "lft-meanfield"``, ``schema_version``, ``lft_version``, ``json`` (what
:meth:`Solution.as_json` returns), ``config`` (every value in use) and ``config_text`` (the model file); ``/axis`` holds
``lags`` or ``times``; ``/populations/NAME`` one dataset per quantity and one ``NAME_error`` each, with attributes
``doc`` and ``axes``; ``/network`` what belongs to all populations together; ``/history`` the relative residual of each
sweep.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field

import numpy as np

from lft import __version__
from lft.analysis.estimate import format_with_error
from lft.archive import check_output, replacing

SCHEMA, VERSION = "lft-meanfield", 1

DOCS = {
    "mean": "mean output (rate in Hz for spiking neurons)",
    "state_mean": "mean of the state (x of a rate neuron, else the summed input)",
    "state_variance": "variance of the state (absent where the summed input has a white part: it is infinite)",
    "output_variance": "variance of the output over neurons and time; not for spikes",
    "frozen_variance": "variance over neurons of the output's time average (q - m^2)",
    "autocovariance": "autocovariance of the output at fixed neuron; lag 0 of spikes holds rate/dt",
    "state_autocovariance": "autocovariance of the state at fixed neuron, frozen part left out",
    "response": "static response of the mean output to a constant input, dm/dmu",
    "response_function": "response of the mean output to an impulse of the input, by lag from the step's end on",
    "site_mean": "mean output by site of the lattice",
    "site_frozen_variance": "variance over the neurons of a site of the output's time average",
    "site_output_variance": "variance of the output over neurons of a site and time",
    "site_state_mean": "mean of the state by site",
    "site_state_variance": "variance of the state by site, over neurons and time",
    "state_covariance": "covariance of the state at two times (rate neurons without sampling)",
    "covariance": "covariance of the output at two times, <y(t) y(s)> - m(t) m(s)",
    "second_moment": "second moment of the output at two times, <y(t) y(s)>",
    "input_mean": "mean of the summed input",
    "input_frozen_variance": "frozen variance of the summed input",
    "spectrum": "power spectrum of the output (of the part that is not frozen), two-sided, by angular frequency",
}


@dataclass(frozen=True)
class PopulationResult:
    """Quantities of one population, ``{name: (value, error)}`` of arrays or floats; names as in ``DOCS``.

    Examples
    --------
    >>> from lft.meanfield.result import PopulationResult
    >>> PopulationResult({"mean": (1.0, 0.1)})["mean"]
    (1.0, 0.1)
    """

    quantities: dict

    def __getitem__(self, name):
        return self.quantities[name]

    def __contains__(self, name):
        return name in self.quantities


@dataclass(frozen=True, repr=False)
class Solution:
    """A self-consistent solution.

    Attributes
    ----------
    mode, method : str
        ``stationary`` or ``two-time``; ``closed``, ``sampling`` or ``march``.
    axis : ndarray
        Lags, or times, in the model's unit.
    populations : dict
        ``{name: PopulationResult}``.
    network : dict
        Quantities of the whole network, ``{name: (value, error)}``.
    history : list of float
        Relative residual of each sweep (of the first replica, if there are several).
    notes : list of str
        What a reader should know.
    settings : dict
        Samples, sweeps, replicas and the like that were used.
    model : Model
    seconds : float
    replicas : dict
        Of sampled stationary solutions ``autocovariance`` (R, P, L) of each replica, for errors of what is linear in
        it; in memory alone.
    """

    mode: str
    method: str
    axis: np.ndarray
    populations: dict
    model: object
    history: list = field(default_factory=list)
    notes: list = field(default_factory=list)
    settings: dict = field(default_factory=dict)
    network: dict = field(default_factory=dict)
    seconds: float = 0.0
    replicas: dict = field(default_factory=dict)

    def as_json(self):
        """The JSON form: keys as ``docs/meanfield.md`` lists them; what is not finite becomes None."""
        name = "lags" if self.mode == "stationary" else "times"
        populations = {}
        for p, result in self.populations.items():
            out = {}
            for key in ("mean", "state_mean", "state_variance", "output_variance", "frozen_variance", "input_mean"):
                if key in result:
                    out[key] = _pair(*result[key])
            for key in ("site_mean", "site_state_variance", "site_frozen_variance"):
                if key in result:
                    out[key], out[f"{key}_error"] = (_plain(v) for v in result[key])
            out[name] = _plain(self.axis)
            if "autocovariance" in result:
                value, error = result["autocovariance"]
                out["autocovariance"], out["autocovariance_error"] = _plain(value), _plain(error)
            populations[p] = out
        data = {"populations": populations, "converged": True, "mode": self.mode, "method": self.method}
        for key, (value, error) in self.network.items():
            if np.ndim(value):
                data[key], data[f"{key}_error"] = _plain(value), _plain(error)
            else:
                data[key] = _pair(value, error)
        return data | {
            "settings": self.settings,
            "residuals": _plain(np.array(self.history)),
            "warnings": list(self.notes),
            "config": self.model.resolved,
            "seconds": self.seconds,
        }

    def table(self):
        """Means and variances as text."""
        lines = [f"{self.mode} solution, {self.method}: {self.settings_text()}"]
        for p, result in self.populations.items():
            lines.append(f"{p}:")
            for key in ("mean", "state_mean", "state_variance", "output_variance", "frozen_variance"):
                if key in result:
                    value, error = (np.atleast_1d(v)[-1] for v in result[key])
                    last = "" if self.mode == "stationary" else " (at the end)"
                    lines.append(f"  {key:18} {format_with_error(float(value), float(error))}{last}")
        lines += [f"{key:20} {format_with_error(*map(float, pair))}" for key, pair in self.network.items()
                  if np.ndim(pair[0]) == 0]
        return "\n".join(lines)

    def settings_text(self):
        return ", ".join(f"{v:g} {k}" if isinstance(v, int | float) else f"{k} {v}" for k, v in self.settings.items())

    def __repr__(self):
        return f"Solution(mode={self.mode!r}, method={self.method!r}, populations={list(self.populations)})"


def _plain(value):
    """Floats, and None for what JSON cannot hold."""
    if np.ndim(value):
        return [_plain(v) for v in np.asarray(value).tolist()]
    return float(value) if math.isfinite(value) else None


def _pair(value, error):
    return {"value": _plain(value), "error": _plain(error)}


def save_solution(solution, path, overwrite=False):
    """Write MF.h5; the file appears whole or not at all.

    Raises
    ------
    InputError
        The file exists and ``overwrite`` is False, or its folder does not exist.
    """
    check_output(path, overwrite)
    with replacing(path, "writing the solution") as file:
        file.attrs.update(schema=SCHEMA, schema_version=VERSION, lft_version=__version__)
        file.attrs["json"] = json.dumps(solution.as_json(), allow_nan=False)
        file.attrs["config"] = json.dumps(solution.model.resolved)
        file.attrs["config_text"] = solution.model.text
        name = "lags" if solution.mode == "stationary" else "times"
        file[f"axis/{name}"] = solution.axis
        file["history"] = np.array(solution.history)
        for key, (value, error) in solution.network.items():
            file[f"network/{key}"], file[f"network/{key}_error"] = value, error
        for p, result in solution.populations.items():
            group = file.create_group(f"populations/{p}")
            for key, (value, error) in result.quantities.items():
                group[key], group[f"{key}_error"] = value, error
                group[key].attrs["doc"] = DOCS[key]
                axes = "site" if key.startswith("site_") else name
                group[key].attrs["axes"] = ",".join([axes] * np.ndim(value))
