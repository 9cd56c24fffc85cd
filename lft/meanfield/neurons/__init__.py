"""Neuron models: what one is, the built-in ones, and gains."""

from lft.meanfield.neurons.binary import Binary
from lft.meanfield.neurons.escape import EscapeRate
from lft.meanfield.neurons.lif import LIF
from lft.meanfield.neurons.rate import Rate
from lft.meanfield.neurons.registry import NEURONS, prepared, read_neuron
from lft.meanfield.neurons.spiking import EIF, QIF, AdEx

__all__ = ["EIF", "LIF", "NEURONS", "QIF", "AdEx", "Binary", "EscapeRate", "Rate", "prepared", "read_neuron"]
