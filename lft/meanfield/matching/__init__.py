"""Models beside models: what each says of a network, and parameters that make one reproduce another or a recording."""
