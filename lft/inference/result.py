"""Results of fits: values with their errors, their JSON form, and the file that a simulation can start from.

``FIT.h5``: root attributes ``schema = "lft-fit"``, ``schema_version``, ``model``, ``method``, ``json`` (what
:func:`fit_json` returns) and, if given, ``config``; one dataset per array (``K``, ``h``, ``J``, ``A``, ``B``,
``I``,
... and ``*_error``).  A lattice fit also holds the lattice itself.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from lft.archive import check_output, replacing
from lft.errors import ArchiveError, InputError
from lft.geometry import Lattice

SCHEMA, SCHEMA_VERSION = "lft-fit", 1


def _short(value, error):
    """``0.4823(12)``: the error, two digits, in units of the last digit shown."""
    if not (math.isfinite(error) and error > 0 and math.isfinite(value)):
        return f"{value:.4g}({error:.2g})"
    digits = max(1 - math.floor(math.log10(error)), 0)
    return f"{value:.{digits}f}({error * 10**digits:.0f})" if digits else f"{value:.0f}({error:.0f})"


@dataclass(kw_only=True, repr=False)
class Fit:
    """What every fit reports, beside ``named()``, couplings by name as (value, error), and ``arrays()`` of its file.

    Attributes
    ----------
    model, method : str
    score : dict
        ``kind``, ``train``, ``test``, ``test_independent``: nats per bin and unit; nan without a test
        stretch.
    gain : tuple of float
        Test score minus that of the independent model, and its standard error over blocks of the test
        stretch.
    n_units, n_bins : int
        Active sites in space and bins of the whole recording (training and test); configurations where there
        is no time.
    n_train, n_blocks : int
        Bins of the training stretch, and blocks behind the errors.
    bin_s : float or None
        Bin width in seconds.
    seconds : float
    warnings : list of str
        Everything that was left out, fixed or estimated in another way than the rest.
    unbounded : list of str
        Parameters whose maximum lies at infinity; their error is nan.
    extra, extra_arrays : dict
        Further entries of the JSON form and arrays of the file: penalty, bootstrap, posterior, discovery, power.
    findings : list of str
        Lines about them for people.
    """

    model: str
    method: str = "pseudo"
    score: dict
    gain: tuple
    n_units: int
    n_bins: int
    n_train: int
    n_blocks: int
    bin_s: float | None
    seconds: float
    warnings: list = field(default_factory=list)
    unbounded: list = field(default_factory=list)
    extra: dict = field(default_factory=dict)
    extra_arrays: dict = field(default_factory=dict)
    findings: list = field(default_factory=list)

    def __repr__(self):
        shown = list(self.named().items())
        text = ", ".join(f"{name}={_short(*pair)}" for name, pair in shown[:8])
        more = f", ... {len(shown) - 8} more" if len(shown) > 8 else ""
        return (
            f"{type(self).__name__}(model={self.model!r}, {text}{more}; test {self.score['test']:.5g}, "
            f"independent {self.score['test_independent']:.5g} nats per bin and unit)"
        )


@dataclass(kw_only=True, repr=False)
class LatticeFit(Fit):
    """Translation-invariant couplings and site fields in the spin convention, weight exp(+K s s' + h s).

    Attributes
    ----------
    lattice : Lattice
    displacements : tuple of tuple of int
        User's axis order, one per coupling.
    couplings : dict
        ``{"K[1,0,0]": (value, error)}``; also ``"h"`` if one field serves all sites.
    covariance : ndarray (n_d, n_d)
        Of the K in the order of ``displacements``.
    joint_covariance : ndarray (n_d + 1, n_d + 1)
        Of the K and, last, of ``h_mean``.
    h, h_error : ndarray (space shape)
        NaN where no site exists.  A site in ``unbounded`` has an estimate in ``h`` and nan in ``h_error``.
    h_mean : tuple of float
        Mean of h over the sites with a finite maximum, and its standard error.
    site_field : bool
    bias : ndarray (n_d,)
        What was subtracted from the maximum to give K (0 without correction).
    """

    lattice: Lattice
    displacements: tuple
    couplings: dict
    covariance: np.ndarray
    joint_covariance: np.ndarray
    h: np.ndarray
    h_error: np.ndarray
    h_mean: tuple
    site_field: bool
    bias: np.ndarray

    def named(self):
        if self.model != "independent" or not self.site_field:
            return self.couplings
        sites = np.argwhere(~np.isnan(self.h))
        return {
            f"h[{','.join(map(str, i))}]": (float(self.h[tuple(i)]), float(self.h_error[tuple(i)]))
            for i in sites
        }

    def arrays(self):
        k = [self.couplings[coupling_name(d)] for d in self.displacements]
        lattice = self.lattice
        mask = np.ones(lattice.space_shape, bool) if lattice.mask is None else lattice.mask
        return {
            "displacements": np.array(self.displacements, np.int64).reshape(len(k), len(lattice.shape)),
            "K": np.array([v for v, _ in k]),
            "K_error": np.array([e for _, e in k]),
            "K_covariance": self.covariance,
            "h_mean": np.array(self.h_mean),
            "joint_covariance": self.joint_covariance,
            "K_bias": self.bias,
            "h": self.h,
            "h_error": self.h_error,
            "mask": mask,
            "shape": np.array(lattice.shape, np.int64),
        }


@dataclass(kw_only=True, repr=False)
class NeuralFit(Fit):
    """Couplings (A, B, I) of 0/1 units, weight exp(-S); ``pairwise``: also J, h of spins, weight exp(+).

    Attributes
    ----------
    A, A_error : ndarray (N, N)
        Symmetric, zero diagonal; S holds each pair twice.  Negative = excitatory.
    B, B_error : dict
        ``{lag: value}``; S holds each pair of bins twice.
    I, I_error : ndarray (N,)
    J, J_error, h, h_error : ndarray or None
        Spin convention, ``pairwise`` only: J = -A/2, h_i = -I_i/2 - sum_j A_ij/2.
    unit : ndarray (N,)
        Index of each unit in the recording.
    """

    A: np.ndarray
    A_error: np.ndarray
    B: dict
    B_error: dict
    I: np.ndarray
    I_error: np.ndarray
    unit: np.ndarray
    J: np.ndarray | None = None
    J_error: np.ndarray | None = None
    h: np.ndarray | None = None
    h_error: np.ndarray | None = None

    def named(self):
        n = len(self.I)
        pair, pair_error, one, one_error, names = (
            (self.A, self.A_error, self.I, self.I_error, "AI")
            if self.J is None
            else (self.J, self.J_error, self.h, self.h_error, "Jh")
        )
        out = {
            f"{names[0]}[{i},{j}]": (float(pair[i, j]), float(pair_error[i, j]))
            for i in range(n)
            for j in range(i + 1, n)
        }
        out |= {f"B[{k}]": (float(v), float(self.B_error[k])) for k, v in self.B.items()}
        return out | {f"{names[1]}[{i}]": (float(one[i]), float(one_error[i])) for i in range(n)}

    def arrays(self):
        out = {
            "A": self.A,
            "A_error": self.A_error,
            "B": np.array(list(self.B.values()), float),
            "B_error": np.array(list(self.B_error.values()), float),
            "lags": np.array(list(self.B), np.int64),
            "I": self.I,
            "I_error": self.I_error,
            "unit": self.unit,
        }
        spins = {"J": self.J, "J_error": self.J_error, "h": self.h, "h_error": self.h_error}
        return out | {name: array for name, array in spins.items() if array is not None}


def coupling_name(displacement):
    """``K[1,0,0]`` for a displacement in the user's axis order.

    >>> coupling_name((1, 0, -1))
    'K[1,0,-1]'
    """
    return f"K[{','.join(str(int(step)) for step in displacement)}]"


def _finite(value):
    """None for nan and infinity, which JSON cannot hold."""
    return float(value) if math.isfinite(value) else None


def fit_json(fit):
    """The JSON form of a fit, ready for ``json.dumps``; what is not finite becomes None.

    Returns
    -------
    dict
        ``model``, ``method``, ``couplings`` (name: value, error), ``score``, ``n_units``, ``n_bins``,
        ``bin_s``, ``seconds``, and ``gain``, ``n_train``, ``n_blocks``, ``warnings``, ``unbounded``; one key for each
        part of ``fit.verdict``, where there is one (:mod:`lft.commands.fit_check`).
    """
    return {
        "model": fit.model,
        "method": fit.method,
        "couplings": {n: {"value": _finite(v), "error": _finite(e)} for n, (v, e) in fit.named().items()},
        "score": {k: v if isinstance(v, str) else _finite(v) for k, v in fit.score.items()},
        "n_units": int(fit.n_units),
        "n_bins": int(fit.n_bins),
        "bin_s": None if fit.bin_s is None else float(fit.bin_s),
        "seconds": float(fit.seconds),
        "gain": {"value": _finite(fit.gain[0]), "error": _finite(fit.gain[1])},
        "n_train": int(fit.n_train),
        "n_blocks": int(fit.n_blocks),
        "warnings": list(fit.warnings),
        "unbounded": list(fit.unbounded),
        **_plain(getattr(fit, "extra", {})),
    } | {key: part.as_json() for key, part in getattr(fit, "verdict", {}).items()}


def _plain(value):
    """A nested value with None for what JSON cannot hold."""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return _finite(value) if isinstance(value, float) else value


def save_fit(fit, path, overwrite=False, config_extra=None):
    """Write a fit to an HDF5 file; the file appears whole or not at all.

    Parameters
    ----------
    fit : LatticeFit, NeuralFit, or any object with ``named()``, ``arrays()`` and the attributes of
    :class:`Fit` path : str or Path overwrite : bool
        Replace an existing file.
    config_extra : dict, optional
        Stored as JSON in the attribute ``config``, such as the command line and the hash of the recording.

    Raises
    ------
    InputError
        The file exists and ``overwrite`` is False, or its folder does not exist.
    """
    check_output(path, overwrite)
    with replacing(path, "writing the fit") as file:
        _write(file, fit, config_extra)


def _write(file, fit, config_extra):
    file.attrs.update(schema=SCHEMA, schema_version=SCHEMA_VERSION, model=fit.model, method=fit.method)
    file.attrs["json"] = json.dumps(fit_json(fit), allow_nan=False)
    if config_extra is not None:
        file.attrs["config"] = json.dumps(config_extra)
    if fit.bin_s is not None:
        file.attrs["bin_s"] = fit.bin_s
    lattice = getattr(fit, "lattice", None)
    if lattice is not None:
        file.attrs["axes"] = list(lattice.axes)
        file.attrs["boundary"] = list(lattice.boundary)
        if lattice.spacing is not None:
            file.attrs["spacing"] = list(lattice.spacing)
    for part in (fit, *getattr(fit, "verdict", {}).values()):
        for name, array in part.arrays().items() if hasattr(part, "arrays") else ():
            file.create_dataset(name, data=array)
    for name, array in getattr(fit, "extra_arrays", {}).items():
        file.create_dataset(name, data=array)


@dataclass(frozen=True, repr=False)
class StoredFit:
    """A fit read from its file: ``fit["K"]`` is an array, ``fit.couplings`` is ``{name: (value, error)}``.

    Attributes
    ----------
    model, method : str
    json : dict
        As :func:`fit_json` returned it.
    arrays : dict of ndarray
    attributes : dict
        Root attributes of the file.
    """

    model: str
    method: str
    json: dict
    arrays: dict
    attributes: dict

    def __getitem__(self, name):
        if name not in self.arrays:
            raise InputError(
                f"fit of model {self.model!r} has no array {name!r}: valid are {', '.join(self.arrays)}"
            )
        return self.arrays[name]

    def __contains__(self, name):
        return name in self.arrays

    @property
    def couplings(self):
        """``{name: (value, error)}``, nan where the file says null."""
        number = lambda x: math.nan if x is None else x  # noqa: E731
        return {n: (number(c["value"]), number(c["error"])) for n, c in self.json["couplings"].items()}

    @property
    def lattice(self):
        """The lattice that was fitted; InputError for a model without one."""
        if "axes" not in self.attributes:
            raise InputError(f"fit of model {self.model!r}: it does not live on a lattice")
        spacing = self.attributes.get("spacing")
        return Lattice(
            tuple(int(n) for n in self["shape"]),
            tuple(self.attributes["axes"]),
            tuple(self.attributes["boundary"]),
            None if spacing is None else tuple(spacing),
            self["mask"],
        )

    def __repr__(self):
        return f"StoredFit(model={self.model!r}, method={self.method!r}, arrays={sorted(self.arrays)})"


def load_fit(path):
    """Read a file that :func:`save_fit` wrote.

    Returns
    -------
    StoredFit

    Raises
    ------
    InputError
        No such file.
    ArchiveError
        Not a fit, or written by a newer version.
    """
    import h5py

    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file; valid is a file written by lft fit")
    try:
        file = h5py.File(path, "r")
    except OSError as reason:
        raise ArchiveError(f"{path}: cannot be read as HDF5 ({reason})") from None
    with file:
        attributes = {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in file.attrs.items()}
        if attributes.get("schema") != SCHEMA:
            raise ArchiveError(f"{path}: schema is {attributes.get('schema')!r}, a fit has {SCHEMA!r}")
        if attributes["schema_version"] > SCHEMA_VERSION:
            raise ArchiveError(
                f"{path}: schema_version {attributes['schema_version']}, valid is up to {SCHEMA_VERSION}"
            )
        try:
            arrays = {name: file[name][()] for name in file}
            parts = attributes["model"], attributes["method"], json.loads(attributes["json"])
        except (KeyError, OSError, RuntimeError, ValueError) as reason:
            raise ArchiveError(f"{path}: damaged fit ({' '.join(str(reason).split())})") from None
    return StoredFit(*parts, arrays, attributes)
