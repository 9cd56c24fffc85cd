"""Saddle points of structured networks: low rank, shared noise, lattices, partially symmetric weights."""
