"""The inverse map: the fine lattice behind what electrodes and bins see."""
