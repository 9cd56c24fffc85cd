"""Series and archives for other packages: ArviZ (diagnostics of chains) and pyerrors (arithmetic with errors).

Both are optional: ``pip install lft[arviz]``, ``pip install lft[pyerrors]``.
"""

from __future__ import annotations

import numpy as np

from lft.analysis.series import check_index, check_replicas
from lft.errors import InputError


def to_pyerrors(series, name="series", index=None):
    """Measurements as pyerrors observables, one ``Obs`` per column.

    Parameters
    ----------
    series : array_like, shape (n,) or (n, k), list of such arrays, or lft.archive.Archive
        As for :func:`lft.analysis.estimate`; replica r becomes ``name|r``.  Of an archive all observables are taken
        (of a tempered one at the temperature of its configurations), named by its file.
    name : str
        Of the ensemble; observables of different ensembles are taken as independent by pyerrors.
    index : array_like of int, or list of them, optional
        Places of the measurements in their chains.

    Returns
    -------
    Obs, or list of Obs, or dict of str to (Obs or list of Obs)
        For (n,), (n, k), an archive.  Call ``gamma_method(S=1.5)`` on them for errors: pyerrors' default S = 2 gives
        longer windows.

    Notes
    -----
    pyerrors counts in measurements: its tau_int is ours over ``spacing``.  With gaps it gives the error
    sqrt(2 tau_int Gamma(0)/n), where ours counts the pairs that exist, which is smaller for positive correlations.

    Raises
    ------
    InputError
        pyerrors is not installed, or as :func:`lft.analysis.estimate`.
    """
    try:
        import pyerrors
    except ImportError as error:
        raise InputError(f"pyerrors cannot be imported ({error}): pip install lft[pyerrors]") from None
    if hasattr(series, "n_samples"):
        archive = _plain(series)
        out = {}
        for key in _finite_names(archive):
            values = archive.samples(key)
            columns = to_pyerrors(values.reshape(len(values), -1), archive.path.stem)
            out[key] = columns[0] if values.ndim == 1 else columns
        return out
    replicas = check_replicas(series, name)
    is_flat = np.ndim(series[0] if isinstance(series, (list, tuple)) and np.ndim(series[0]) else series) == 1
    idl = {} if index is None else {"idl": [i.tolist() for i in check_index(index, replicas, name)]}
    labels = [name] if len(replicas) == 1 else [f"{name}|{r}" for r in range(len(replicas))]
    columns = [pyerrors.Obs([r[:, j] for r in replicas], labels, **idl) for j in range(replicas[0].shape[1])]
    return columns[0] if is_flat else columns


def to_arviz(archives):
    """Archives of one theory as ``arviz.InferenceData``: archives are chains, measurements draws.

    Parameters
    ----------
    archives : lft.archive.Archive or list of them
        Runs with the same configuration but for the seed; cut to the shortest, which is said in the attribute
        ``dropped_draws`` of the posterior.

    Returns
    -------
    arviz.InferenceData
        Group ``posterior``: variables of shape (chain, draw, ...); its attributes hold the configuration, and
        ``updates_per_draw``, with which ArviZ's effective sample sizes become times.

    Raises
    ------
    InputError
        ArviZ is not installed, or the archives measure different observables.

    Examples
    --------
    ``arviz.summary(to_arviz([Archive("a.h5"), Archive("b.h5")]), var_names=["m2", "bond_x"])``
    """
    try:
        import warnings

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of its own future, at import
            import arviz
    except ImportError as error:
        raise InputError(f"arviz cannot be imported ({error}): pip install lft[arviz]") from None
    archives = [_plain(a) for a in (archives if isinstance(archives, (list, tuple)) else [archives])]
    names = _finite_names(archives[0])
    for archive in archives[1:]:
        if _finite_names(archive) != names:
            raise InputError(f"{archive.path}: measures other observables than {archives[0].path}")
    n = min(a.n_samples for a in archives)
    posterior = {name: np.stack([a.samples(name)[:n] for a in archives]) for name in names}
    first = archives[0]
    attrs = {
        "archives": ", ".join(str(a.path) for a in archives),
        "action": repr(first.action),
        "updates_per_draw": int(first.config["run"]["measure_every"]),
        "dropped_draws": int(sum(a.n_samples - n for a in archives)),
    }
    data = arviz.from_dict(posterior=posterior)
    data.posterior.attrs.update(attrs)
    return data


def _plain(archive):
    from lft.analysis.tempered import plain

    return plain(archive) if hasattr(archive, "tempering") else archive


def _finite_names(archive):
    """Observables that hold numbers everywhere (improved estimators may not)."""
    return [n for n in archive.names if n not in ("acceptance", "replica") and np.isfinite(archive.samples(n)).all()]
