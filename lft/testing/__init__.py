"""What a test needs: exactly solvable systems, slow and obviously right oracles, statistical judgments.

Public, because the author of a new action or updater needs it as much as the test suite does.
"""

from lft.testing.exact import (
                               ChainSolution,
                               FreeField,
                               LatticeMoments,
                               NeuralMoments,
                               decimate_chain,
                               enumerate_lattice,
                               enumerate_neural,
                               enumerate_states,
                               free_field,
                               ising_chain,
                               single_site_phi4,
)
from lft.testing.kaufman import kaufman_bonds, kaufman_log_z
from lft.testing.oracles import (
                               ising_action,
                               k_pairwise_action,
                               lagged_action,
                               neural_action,
                               pairwise_action,
                               phi4_action,
                               phi4_force,
                               philox4x32,
)
from lft.testing.statistics import ar1_series, assert_agrees, normality_p_value, z_score
from lft.testing.transfer import BoxMoments, ising_box

__all__ = ["BoxMoments", "ChainSolution", "FreeField", "LatticeMoments", "NeuralMoments", "ar1_series", "assert_agrees",
           "decimate_chain", "enumerate_lattice", "enumerate_neural", "enumerate_states", "free_field",
           "ising_action", "ising_box", "ising_chain", "k_pairwise_action", "kaufman_bonds", "kaufman_log_z",
           "lagged_action", "neural_action",
           "normality_p_value", "pairwise_action", "phi4_action", "phi4_force", "philox4x32", "single_site_phi4",
           "z_score"]
