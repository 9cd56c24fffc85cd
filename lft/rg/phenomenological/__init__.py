"""Phenomenological renormalization of recordings, always beside its nulls."""
