"""Does a fitted model hold?  Checks beside simulation, held-out ranking, specific heat, pitfalls of the data."""
