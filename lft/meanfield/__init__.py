"""Dynamic mean-field theory of networks of any causal neurons: means and two-time covariances, self-consistently."""
