"""Beyond the saddle point: covariances of order 1/N, spread over pairs, stability, chaos."""
