# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The generic loops for the built-in binary actions; the real ones stand in real.pyx."""
from lft._kernels.actions cimport binary_action_t
include "binary_loops.pxi"
