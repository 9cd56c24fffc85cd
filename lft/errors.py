"""The few exceptions of the package; each carries the numbers it speaks of in its message."""


class LftError(Exception):
    """Base class: a failure that one clear line explains."""


class InputError(LftError, ValueError):
    """The user gave something that cannot be used; the message names it, its value and what is valid."""


class ArchiveError(LftError):
    """An archive cannot be read, written or resumed."""


class DivergenceError(LftError):
    """A field, an action or a fit stopped being finite."""


class ConvergenceError(LftError):
    """A self-consistent solution was not reached; ``history`` holds what the iteration did."""

    def __init__(self, message, history=()):
        super().__init__(message)
        self.history = tuple(history)


class DomainError(InputError):
    """The lattice cannot be spread over the given number of ranks."""


class SeriesTooShort(UserWarning):
    """A series is shorter than 50 integrated autocorrelation times: its error bar is not to be trusted."""


class DataWarning(UserWarning):
    """Something in a recording deserves attention: clipped spikes, silent units, non-stationarity."""
