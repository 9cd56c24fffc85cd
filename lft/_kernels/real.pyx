# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The generic loops for the built-in real actions."""
from lft._kernels.actions cimport real_action_t
include "real_loops.pxi"
