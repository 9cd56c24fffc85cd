"""From recordings to couplings: reading and binning spikes, fitting, judging the fit."""
