"""Penalized fits of any objective: L1, L2, elastic and group penalties, paths, cross-validation, honest errors."""
