"""Threads inside a rank: how many the compiled loops may use.  Results never depend on their number."""

from __future__ import annotations

import os

from lft.errors import InputError

VARIABLES = ("LFT_THREADS", "OMP_NUM_THREADS")
"""Environment variables that set the number of threads of a rank; the first that is set counts."""

MAX_THREADS = 1024


def count():
    """Threads of this rank: ``LFT_THREADS``, else ``OMP_NUM_THREADS``, else 1.

    One thread per rank is the default because ranks already fill the cores of a node; a job with fewer ranks than
    cores sets the variable.  ``OMP_NUM_THREADS`` may be a list (one number per nesting level), of which the first
    counts.

    Raises
    ------
    InputError
        The value is not an integer from 1 to 1024.

    Examples
    --------
    >>> from lft import threads
    >>> threads.count() >= 1
    True
    """
    for name in VARIABLES:
        text = os.environ.get(name, "").strip()
        if not text:
            continue
        first = text.split(",")[0].strip() if name == "OMP_NUM_THREADS" else text
        if not first.isdecimal() or not 1 <= int(first) <= MAX_THREADS:
            raise InputError(f"{name} = {text!r}: valid is an integer from 1 to {MAX_THREADS}")
        return int(first)
    return 1
