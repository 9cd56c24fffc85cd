"""Self-consistent means and covariances: closed, sampled, stationary, in time."""
