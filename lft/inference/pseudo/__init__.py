"""Maximum pseudo-likelihood of Gibbs models of 0/1 units, from a few units to thousands: see ``objective``."""
