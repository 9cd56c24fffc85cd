"""Which options of ``lft fit`` a model reads: one that it would not read is an error, never silently ignored."""

from __future__ import annotations

from lft.errors import InputError

GIBBS = ("pairwise", "neural", "k-pairwise", "lagged")
CAUSAL = ("kinetic", "glm")
READ_BY = {
    "lags": (*CAUSAL, "gaussian"),
    "basis": ("glm",),
    "own_basis": CAUSAL,
    "family": ("glm",),
    "link": ("glm",),
    "refractory": ("glm",),
    "input": (*GIBBS, *CAUSAL),
    "events": (*GIBBS, *CAUSAL, "gaussian"),
    "trials": (*GIBBS, *CAUSAL, "gaussian"),
    "ridge": (*GIBBS, *CAUSAL, "gaussian"),
    "reach": ("lattice", "neural", "lagged"),
    "diagonals": ("lattice",),
    "pitch": ("independent", "lattice"),
}
DEFAULTS = {"ridge": 0.0, "reach": "1,1", "diagonals": False, "model": "lattice", "accuracy": 0.02}


def check_options(args, models):
    """InputError for an option that none of the models reads.

    Parameters
    ----------
    args : argparse.Namespace
    models : sequence of str
        The model, or those of ``--compare``.

    Examples
    --------
    >>> from argparse import Namespace
    >>> check_options(Namespace(method="pseudo", lags=3), ["pairwise"])
    Traceback (most recent call last):
    lft.errors.InputError: --lags: only for --model kinetic, glm, gaussian, not for --model pairwise
    """
    is_given = lambda name: getattr(args, name, None) not in (None, DEFAULTS.get(name))  # noqa: E731
    for name, readers in READ_BY.items():
        if is_given(name) and not set(readers) & set(models):
            raise InputError(f"--{name.replace('_', '-')}: only for --model {', '.join(readers)}, not for --model "
                             f"{', '.join(models)}")  # fmt: skip
    if getattr(args, "compare", None) is not None and is_given("model"):
        raise InputError(f"--model {args.model}: not together with --compare, which names its models")
    for name in ("input", "trials"):
        if is_given(name) and args.method != "pseudo" and not {*CAUSAL, "gaussian"} & set(models):
            raise InputError(f"--{name}: only for --method pseudo, not for {args.method}")
    if is_given("accuracy") and args.method != "boltzmann":
        raise InputError(f"--accuracy {args.accuracy:g}: only for --method boltzmann, not for {args.method}")
    if is_given("events") and not (is_given("input") or is_given("trials")):
        raise InputError(f"--events {args.events}: nothing uses the events; give --trials, or --input events:...")
