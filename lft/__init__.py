"""Lattice field theory engine for neural activity.

Simulate lattice fields by Monte Carlo, fit their couplings to recordings, follow them under renormalization.
"""

__version__ = "0.1.0"
