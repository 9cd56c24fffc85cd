"""What a neuron with a closed form says of itself."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class GainForm:
    """A neuron as a gain on a Gaussian variable.

    Attributes
    ----------
    gain : callable
    tau_in : float
        Low-pass filter before the gain; 0: none.
    tau_out : float
        Mean time between the updates of a binary neuron; 0: synchronous, all of them in every step of the grid.
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

    @property
    def is_discrete(self):
        """True if its time goes in steps of the grid: a binary neuron with synchronous updates."""
        return self.kind == "binary" and not self.tau_out

    def answer(self, omega, dt):
        """What turns the slope of the mean gain into the response R(w), at angular frequencies (F,).

            1/((1 + i w tau_in)(1 + i w tau_out)),        exp(-i w dt) where updates are synchronous

        A synchronous neuron shows its input one step later; without that delay no loop could overshoot.

        Examples
        --------
        >>> import numpy as np
        >>> GainForm(None, kind="binary").answer(np.array([np.pi]), 1.0).round(12).real.tolist()
        [-1.0]
        """
        late = np.exp(-1j * omega * dt) if self.is_discrete else 1.0
        return late / ((1 + 1j * omega * self.tau_in) * (1 + 1j * omega * self.tau_out))
