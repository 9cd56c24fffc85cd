"""What a model file names as ``"module:name"``: of a module beside the file, else on Python's path."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import sysconfig
import traceback
from pathlib import Path

from lft.errors import InputError

PACKAGE = Path(__file__).resolve().parents[2]


def find_beside(what, folder=None):
    """The object that ``"module:name"`` names.

    Parameters
    ----------
    what : str
        A dot in ``module`` stands for a folder.
    folder : path, optional
        Where the model file lies; without it Python's path alone.

    Raises
    ------
    InputError
        The module is not there, raises an exception when it is loaded, or has nothing of that name.

    Notes
    -----
    A module beside the file is loaded anew for every model and never found by ``import``; while it is loaded (not
    later, within functions), it can itself import modules that lie beside it.

    Examples
    --------
    >>> from lft.meanfield.neurons.beside import find_beside
    >>> find_beside("math:cos")(0.0)
    1.0
    """
    module, _, name = what.partition(":")
    try:
        loaded = _load(module, folder)
    except Exception as error:  # whatever the user's module does when it is loaded
        is_there = not (isinstance(error, ModuleNotFoundError) and error.name in (module, module.split(".")[0]))
        where = "" if is_there or folder is None else f"; no {_file(module, folder)} either"
        raise InputError(f"{module} cannot be imported ({type(error).__name__}: {error}{where})") from error
    found = loaded
    for part in name.split("."):
        found = getattr(found, part, None)
    if not name or found is None:
        raise InputError(f"{getattr(loaded, '__file__', None) or module} has no {name!r}")
    return found


def _file(module, folder):
    return Path(folder, *module.split(".")).with_suffix(".py")


def _load(module, folder):
    path = None if folder is None else _file(module, folder)
    if path is None or not path.is_file():
        return importlib.import_module(module)
    name = f"_lft_model_{module.replace('.', '_')}"
    spec = importlib.util.spec_from_file_location(name, path)
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[name] = loaded
    own, before = str(Path(folder).resolve()), set(sys.modules)
    sys.path.insert(0, own)
    try:
        spec.loader.exec_module(loaded)
    finally:
        if own in sys.path:
            sys.path.remove(own)
        for other in set(sys.modules) - before:  # another folder may have modules of the same names
            if Path(getattr(sys.modules[other], "__file__", None) or "/").is_relative_to(own):
                del sys.modules[other]
    return loaded


def raised(error, own=()):
    """(file, what to say in one line) of an exception from code of a user; None where no such code took part.

    Parameters
    ----------
    error : Exception
        With its traceback.
    own : sequence of str, optional
        Files that count as a user's wherever they lie; else those of neither this package nor Python nor an installed
        package.

    Examples
    --------
    >>> from lft.meanfield.neurons.beside import raised
    >>> try:
    ...     [][0]
    ... except IndexError as error:
    ...     print(raised(error, ["cells.py"]))
    None
    """
    installed = [PACKAGE, *(Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "purelib", "platlib"))]
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = Path(frame.filename)
        is_strange = path.is_file() and not any(path.resolve().is_relative_to(folder) for folder in installed)
        if frame.filename in own or is_strange:
            text = f"{type(error).__name__}: {error} ({path.name}, line {frame.lineno}, in {frame.name})"
            return frame.filename, text
    return None
