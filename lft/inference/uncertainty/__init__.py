"""How well couplings are known: sandwich, bootstrap, posterior, identifiability, discovery, power."""
