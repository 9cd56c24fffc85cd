"""What a neuron with a closed form says of itself."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class GainForm:
    """A neuron as a gain on a Gaussian variable.

    Attributes
    ----------
    gain : callable
    tau_in : float
        Low-pass filter before the gain; 0: none.
    tau_out : float
        Mean time between the updates of a binary neuron; 0: synchronous.
    kind : str
        ``"value"``, ``"binary"`` or ``"spikes"``.
    noise : tuple of (intensity, tau)
        Private noise before the filter, ``<xi xi> = intensity delta`` for tau = 0.
    levels : tuple
        The two outputs of a binary neuron.
    """

    gain: object
    tau_in: float = 0.0
    tau_out: float = 0.0
    kind: str = "value"
    noise: tuple = (0.0, 0.0)
    levels: tuple = (0.0, 1.0)
