"""Causal models: every bin is drawn given the past, unit by unit, so that the likelihood is exact and cheap."""
