"""Renormalization from many configurations: operators, stability matrix, matching, couplings of blocked fields."""
