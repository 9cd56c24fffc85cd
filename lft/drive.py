"""Time-dependent inputs of actions of units: one-body couplings that change from bin to bin.

    S = ... + sum_ia I_i phi_i^a - sum_ia sum_q u_iq x_q(a) phi_i^a,        I_i^a = I_i - sum_q u_iq x_q(a)

The columns x_q are given, the weights u are couplings like others (log-odds: positive excites), conjugate to
``O_u[i, q] = - sum_a x_q(a) phi_i^a``.  Bins of a field are the first ones of the columns.
"""

from __future__ import annotations

import numpy as np

from lft.errors import InputError


def arguments(input_weights, inputs):
    """(couplings, options) of an action with these arguments, empty without inputs."""
    if (input_weights is None) != (inputs is None):
        raise InputError("input_weights and inputs: valid is both or neither")
    if inputs is None:
        return {}, {}
    u, x = np.asarray(input_weights, float), np.asarray(inputs, float)
    if u.ndim != 2 or x.ndim != 2 or u.shape[1] != x.shape[1] or not (np.isfinite(u).all() and np.isfinite(x).all()):
        raise InputError(
            f"input_weights of shape {u.shape}, inputs of shape {x.shape}: valid are finite numbers (units, inputs), "
            "(bins, inputs)"
        )
    return {"input_weights": u}, {"inputs": x}


def is_driven(action):
    """Whether the action has inputs."""
    return "input_weights" in action.couplings


def one_body(action, I, plan, geometry):
    """I_i^a of the padded block of a field, (rows, units); I itself without inputs."""
    if not is_driven(action):
        return I
    u, x = action.couplings["input_weights"], action.inputs
    if len(u) != geometry.n_units:
        raise InputError(f"input_weights are for {len(u)} units, the graph has {geometry.n_units}")
    if geometry.n_bins > len(x):
        raise InputError(f"inputs of {len(x)} bins, the graph has {geometry.n_bins}: no more bins can be drawn")
    halo, mine = plan.domain.halo[0], plan.domain.slices[0]
    out = np.zeros((mine.stop - mine.start + 2 * halo, geometry.n_units))
    out[halo : len(out) - halo] = I - x[mine] @ u.T
    return out


def operators(action, phi):
    """The conjugate operator of the weights by its name, empty without inputs."""
    return {"input_weights": operator(phi, action.inputs)} if is_driven(action) else {}


def operator(phi, inputs):
    """- sum_a x_q(a) phi_i^a, (units, inputs): correctly rounded, the same bits on every number of ranks."""
    n_units, n_inputs = phi.geometry.n_units, inputs.shape[1]
    bins, unit = np.nonzero(phi.values)
    values = -inputs[phi.domain.slices[0]][bins]
    place = unit[:, None] * n_inputs + np.arange(n_inputs)
    sums = phi.domain.sum_groups(values.ravel(), place.ravel(), n_units * n_inputs, "inputs")
    return sums.reshape(n_units, n_inputs)
