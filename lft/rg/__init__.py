"""Renormalization: block transformations and the flow of couplings."""
