"""Solve a model by the method that its settings ask for."""

from __future__ import annotations

import dataclasses
import math
import time

import numpy as np

from lft.errors import ConvergenceError, InputError
from lft.meanfield.fluctuations.covariance_closed import population_covariance, susceptibility
from lft.meanfield.fluctuations.integrate_fire import (
    collective_mode,
    has_white_loop,
    population_noise,
    white_noise_rates,
)
from lft.meanfield.fluctuations.shot_noise import skewness_notes
from lft.meanfield.fluctuations.stability import stability
from lft.meanfield.neurons import prepared
from lft.meanfield.result import PopulationResult, Solution
from lft.meanfield.saddle.agreement import check_replicas, frozen_doubt, mean_doubt
from lft.meanfield.saddle.several import closed_states_beside, high_push, sampled_states_beside
from lft.meanfield.saddle.shots import check_shots
from lft.meanfield.saddle.simulate import SHORT, check_causality
from lft.meanfield.saddle.stationary import PARTS, solve_stationary
from lft.meanfield.saddle.stationary_closed import has_closed_form, solve_closed
from lft.meanfield.saddle.two_time import solve_two_time
from lft.meanfield.saddle.two_time_closed import has_closed_path, solve_two_time_closed
from lft.meanfield.structured import structure_of

ARRAYS = 7
SLOWEST = 0.1
"""Frequency in Hz below which a mode does not oscillate: its eigenvalue is real but for rounding."""
STARTS = {"guess": (1.0, 0.0), "low": (0.01, -1.0), "high": (1.0, 1.0)}
"""Variance and push of the mean to begin with (from high inputs as far as outputs could hold them)."""


def solve(model, comm=None, start="guess"):
    """The self-consistent state of a network.

    Parameters
    ----------
    model : Model
        With ``solve`` settings.
    comm : communicator, optional
        Replicas are spread over its ranks; the result is the same for any number.
    start : str, optional
        Stationary: ``"guess"``, ``"low"`` or ``"high"``, where to begin; different results show multistability
        (:func:`solve_from`).

    Returns
    -------
    Solution
        On every rank.

    Raises
    ------
    InputError
        The model cannot be solved by that method, or a neuron is not causal.
    ConvergenceError
        No fixed point, oscillation, a state that is not stable, NaN, a covariance that is not positive; carries the
        history.

    Examples
    --------
    >>> from lft.meanfield.model import Connection, Gaussian, Model, Population, Solve
    >>> from lft.meanfield.neurons import Rate
    >>> from lft.meanfield.solver import solve
    >>> network = (Connection("x", "x", Gaussian(0.0, 2.0)),)
    >>> chaos = solve(Model((Population("x", Rate("tanh")),), network, Solve("stationary", 0.05, 100.0)))
    >>> [round(float(v), 5) for v in (chaos.populations["x"]["state_variance"][0], chaos.network["lyapunov"][0])]
    [1.92481, 0.11246]
    """
    if model.solve is None:
        raise InputError("the model has no [solve] settings")
    if start not in STARTS:
        raise InputError(f"start = {start!r}: valid are {', '.join(STARTS)}")
    begin = time.perf_counter()
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is found by the checks of every iteration
        solution = _dispatch(model, comm, STARTS[start])
    return dataclasses.replace(solution, seconds=time.perf_counter() - begin)


def _dispatch(model, comm, start):
    settings, structure = model.solve, structure_of(model)
    if settings.input == "shot" and (structure or settings.mode != "stationary"):
        what = " and ".join(sorted(structure)) or f"mode = {settings.mode!r}"
        raise InputError(f"{what}: not solved with input = 'shot'; valid is input = 'gaussian'")
    if structure:
        return _structured(model, comm, start, structure)
    if settings.mode == "stationary":
        if any(p.is_driven_in_time for p in model.populations):
            raise InputError("input: changes in time; valid in mode = 'two-time' alone")
        is_shot = settings.input == "shot"
        if is_shot and settings.method == "closed":
            raise InputError("input = 'shot': valid with method = 'sampling' or 'auto'")
        closed = has_closed_form(model) and not is_shot if settings.method == "auto" else settings.method == "closed"
        if settings.method == "march":
            raise InputError("method = 'march': valid in mode = 'two-time' alone")
        solution = _closed_stationary(model, start) if closed else _sampled_stationary(model, comm, start)
    else:
        closed = has_closed_path(model) if settings.method == "auto" else settings.method == "closed"
        if closed:
            solution = _closed_two_time(model)
        else:
            solution = _sampled_two_time(model, comm)
    return solution


def _structured(model, comm, start, structure):
    """Solutions of structured networks; each says what it can."""
    what, settings = " and ".join(sorted(structure)), model.solve
    if settings.mode != "stationary" or settings.method == "march":
        raise InputError(f"{what}: valid with mode = 'stationary'")
    if structure == {"partially symmetric weights"}:
        from lft.meanfield.structure.symmetric import solve_symmetric

        _check_neurons(model)
        return solve_symmetric(model, comm)
    if settings.method == "sampling" or not has_closed_form(model):
        raise InputError(f"{what}: valid for rate, binary and escape-rate neurons without sampling (method = 'closed')")
    if structure == {"site_input"}:
        return _on_lattice(model, start)
    if structure & {"site_input", "partially symmetric weights"}:
        raise InputError(f"{what}: not solved together")
    return _closed_stationary(model, start)


def _on_lattice(model, start):
    from lft.meanfield.structure.lattice import lattice_quantities, solve_lattice

    coarse = dataclasses.replace(model, solve=dataclasses.replace(model.solve, dt=2 * model.solve.dt))
    (system, state, history), (rough, rough_state, _) = (solve_lattice(m, start) for m in (model, coarse))
    n = round((model.solve.max_lag or model.solve.duration / 2) / model.solve.dt) + 1
    populations = {}
    for k, p in enumerate(model.populations):
        fine, other = lattice_quantities(system, state, k, n), lattice_quantities(rough, rough_state, k, n)
        for key in ("autocovariance", "state_autocovariance"):
            other[key] = np.interp(system.grid.lags[: len(fine[key])], rough.grid.lags[: len(other[key])], other[key])
        size = 1e-9 * math.sqrt(fine["output_variance"])
        populations[p.name] = PopulationResult({
            key: (value, np.abs(value - other[key]) / 3 + 1e-9 * np.max(np.abs(value)) + size)
            for key, value in fine.items() if not (_is_spiking(p) and key.endswith("output_variance"))
        })
    n = len(populations[model.names[0]]["autocovariance"][0])
    settings = {"iterations": len(history), "grid points": system.grid.n, "sites": system.n}
    return Solution("stationary", "closed", system.grid.lags[:n], populations, model, history, [], settings)


def solve_from(model, starts=tuple(STARTS), comm=None, z=4.5):
    """The different stationary states that several starts lead to.

    Returns
    -------
    list of (str, Solution)
        The first start that leads to each state; states count as different if a mean or an output variance differs by
        more than ``z`` errors and 1 %.

    Raises
    ------
    ConvergenceError
        No start leads to a stable state; a start that does not is left out.
    """
    found, failed = [], None
    for start in starts:
        try:
            solution = solve(model, comm, start)
        except ConvergenceError as error:
            failed = error
            continue
        if not any(_same(solution, other, z) for _, other in found):
            found.append((start, solution))
    if not found:
        raise failed
    return found


def _same(one, two, z):
    for name, result in one.populations.items():
        for key in ("mean", "state_variance"):
            if key not in result:
                continue
            (a, ea), (b, eb) = result[key], two.populations[name][key]
            size = max(abs(a), abs(b))
            if abs(a - b) > max(z * math.hypot(ea, eb), 0.01 * size, 1e-9):
                return False
    return True


def _check_neurons(model):
    _, variance = model.matrices()
    for a, p in enumerate(model.populations):
        scale = math.sqrt(sum(variance[a]) + p.white / model.solve.dt) + abs(p.drive(0.0)) * 0.1 + 1e-3
        steps = SHORT if type(p.neuron).__module__.startswith("lft.") else model.solve.n_steps
        check_causality(prepared(p.neuron, model.solve.dt), p.name, scale, p.drive(0.0), steps, model.solve.dt)


def _coarse_notes(model):
    """Populations whose time constant the grid does not resolve."""
    dt = model.solve.dt
    out = []
    for p in model.populations:
        own = float(getattr(p.neuron, "timescale", 0.0))
        if 0 < own < 4 * dt:
            out.append(f"{p.name}: dt = {dt:g} is not small against the neuron's time constant {own:g}; take less")
    return out


def _has_white_input(model, p):
    """Whether the variance of the summed input is infinite: white noise, or spikes without a filter."""
    into = model.into(p.name)
    return p.white > 0 or any(
        _is_spiking(model.population(c.source)) and c.synapse == 0 and model.statistics(c).variance > 0 for c in into
    )


def _is_spiking(p):
    return bool(getattr(p.neuron, "is_point_process", False))


# ---- stationary
def _closed_stationary(model, start):
    coarse = dataclasses.replace(model, solve=dataclasses.replace(model.solve, dt=2 * model.solve.dt))
    system, state, history = solve_closed(model, start)
    rough, rough_state, _ = solve_closed(coarse, start)
    n = round((model.solve.max_lag or model.solve.duration / 2) / model.solve.dt) + 1
    populations, notes = {}, []
    for k, p in enumerate(model.populations):
        fine, other = _closed_quantities(system, state, k, n), _closed_quantities(rough, rough_state, k, n)
        quantities = {}
        for key, value in fine.items():
            if np.ndim(value):
                own = int(system.forms[k].is_discrete)  # lag 0 is no limit of the others: no line goes to it
                coarse_value = np.interp(system.grid.lags[:n], rough.grid.lags[own : len(other[key])], other[key][own:])
                coarse_value[:own] = other[key][:own]
            else:
                coarse_value = other[key]
            # second order in dt: a third of the difference; rounding and the tolerance of the iteration below that
            floor = 1e-9 * (np.max(np.abs(value)) + math.sqrt(fine["output_variance"]))
            quantities[key] = (value, np.abs(value - coarse_value) / 3 + floor)
        if _is_spiking(p):
            quantities.pop("output_variance", None)
        populations[p.name] = PopulationResult(quantities)
        if np.max(np.abs(fine["autocovariance"])) < 1e-10 and p.white == 0:
            notes.append(f"{p.name}: nothing moves; the state is a fixed point of the network")
    notes += skewness_notes(model, [populations[name]["mean"][0] for name in model.names])
    if start == STARTS["guess"]:
        notes += closed_states_beside(model, system, state)
    solution = Solution("stationary", "closed", system.grid.lags[:n], populations, model, history, notes,
                        {"iterations": len(history), "grid points": system.grid.n})
    return dataclasses.replace(solution, network=_network(model, (system, state), (rough, rough_state), notes, history))


def _closed_quantities(system, state, k, n):
    m, q, _ = system.parts(state, k)
    mu, frozen, dynamic = system.inputs(state, k)
    n = min(n, len(system.grid.lags))
    out = system.output(state, k)
    return {
        "mean": float(m),
        "state_mean": float(mu),
        "state_variance": float(frozen + dynamic[0]),
        "output_variance": max(float(q - m * m + out[0]), 0.0),
        "frozen_variance": float(q - m * m),
        "input_frozen_variance": float(frozen),
        "autocovariance": out[:n].copy(),
        "state_autocovariance": dynamic[:n].copy(),
        "response": susceptibility(system.forms[k].gain, mu, math.sqrt(frozen + max(dynamic[0], 0.0))),
    }


def _network(model, fine, rough, notes, history):
    """Stability and population covariances of a closed solution."""
    out = stability(model, *fine)
    covariance, more = population_covariance(model, *fine, history)
    notes += more
    coarse, _ = population_covariance(model, *rough, history)
    if covariance is not None and coarse is not None:
        out["population_covariance"] = (covariance, np.abs(covariance - coarse) / 3 + 1e-9 * np.abs(covariance).max())
    if getattr(fine[0], "low_rank", ()):
        kappa, other = (np.concatenate(s.overlaps(x)) for s, x in (fine, rough))
        out["overlap"] = (kappa, np.abs(kappa - other) / 3 + 1e-9)
    return out


def _sampled_stationary(model, comm, start):
    if model.solve.input == "shot":
        check_shots(model)
    _check_neurons(model)
    notes = _coarse_notes(model)  # what is rounded in delays plays no part here
    begin = (start[0], high_push(model)) if start == STARTS["high"] else start
    _, grid, total, evidence = solve_stationary(model, comm, begin, _feedback(model, notes), _first_rates(model, start))
    notes += check_replicas(model, total)
    populations = {}
    for a, p in enumerate(model.populations):
        pairs = list(zip(total.mean, total.error, strict=True))[(PARTS + 1) * a : (PARTS + 1) * (a + 1)]
        mean, frozen, lags, seen, inputs = pairs
        doubt, more = mean_doubt(model, total, a)
        if doubt:
            mean = mean[0], np.hypot(mean[1], doubt)
            notes += more
        doubt, more = frozen_doubt(model, total, a)
        if doubt:  # what is missing in the frozen variance is in A instead
            frozen, lags = ((value, np.hypot(error, doubt)) for value, error in (frozen, lags))
            notes += more
        has_state = hasattr(prepared(p.neuron, model.solve.dt), "observe")
        q = {
            "mean": _item(mean, 0),
            "state_mean": _item(seen, 0) if has_state else _item(inputs, 0),
            "state_variance": _item(seen, 1) if has_state else _item(inputs, 2),
            "frozen_variance": _item(frozen, 0),
            "input_mean": _item(inputs, 0),
            "input_frozen_variance": _item(inputs, 1),
            "autocovariance": lags,
        }
        if not has_state and _has_white_input(model, p):
            del q["state_variance"]
        if not _is_spiking(p):
            # of each replica: what is missing in the frozen part is in A
            parts = zip(total.kept, total.small, strict=True)
            whole = [kept[a][0] + small[(PARTS + 1) * a + 1][0] for kept, small in parts]
            q["output_variance"] = float(np.mean(whole)), float(np.std(whole, ddof=1)) / math.sqrt(len(whole))
        populations[p.name] = PopulationResult(q)
        notes += _tail_note(p, grid, lags)
        if frozen[1][0] == 0:
            notes.append(f"{p.name}: no frozen variance that stands out of its noise: it counts as 0, without an error")
        if mean[1][0] == 0:
            notes.append(f"{p.name}: the mean output is the same in all replicas: its error is not measured")
    if evidence["negative_power"] > 0.01:
        notes.append(f"{evidence['negative_power']:.1%} of the input's spectrum came out negative and was cut: "
                     "longer duration or more samples")
    if model.solve.input == "gaussian":
        notes += skewness_notes(model, [populations[name]["mean"][0] for name in model.names])
    if start == STARTS["guess"] and model.solve.input == "gaussian":
        notes += sampled_states_beside(model, *_output_sizes(populations))
    solution = Solution("stationary", "sampling", grid.lags, populations, model, evidence["residuals"], notes,
                        _settings(model, evidence), replicas={"autocovariance": np.array(total.kept)})
    return dataclasses.replace(solution, network=_collective(model, populations, notes))


def _output_sizes(populations):
    """(means, sizes) of the outputs of all populations."""
    found = [(q["mean"][0], q["frozen_variance"][0], np.abs(q["autocovariance"][0][1:3]).max())
             for q in populations.values()]
    return np.array([m for m, _, _ in found]), np.array([math.sqrt(m * m + max(e, 0.0) + a) for m, e, a in found])


def _feedback(model, notes):
    """What the fluctuations of a finite network add to its inputs, where that is known: callable or None."""
    sized = all(p.size is not None for p in model.populations)
    if not (sized and model.solve.input == "gaussian" and model.connections and has_white_loop(model)):
        return None

    def known(omega):
        try:
            found = population_noise(model, omega)
        except ConvergenceError as error:
            notes.append(f"fluctuations of order 1/N are left out of the input: {error}")
            return None
        if found is None:
            notes.append("fluctuations of order 1/N are left out of the input: no stable state in white noise")
        return found

    return known


def _first_rates(model, start):
    """Rates in white noise, from which spike trains as input begin, where they are known."""
    if model.solve.input != "shot" or start != STARTS["guess"] or not has_white_loop(model):
        return None
    try:
        return white_noise_rates(model, np.full(len(model.populations), 10.0))
    except ConvergenceError:
        return None


def _collective(model, populations, notes):
    """The least damped mode of a network of integrate-and-fire neurons in Brunel's limit, white noise alone."""
    means = np.array([populations[p]["mean"][0] for p in model.names])
    if not (model.connections and has_white_loop(model) and np.all(means > 0)):
        return {}
    try:
        mode = collective_mode(model, means)
    except ConvergenceError as error:
        notes.append(f"stability is not known: {error}")
        return {}
    if mode is None:
        return {}
    growth, frequency = mode
    if growth[0] > 0 and frequency[0] < SLOWEST:
        notes.append(f"the rates run away together: in white noise a mode grows at {growth[0]:.3g}/s without "
                     "oscillating, so that this stationary state is unstable; several may be stable (solve_from)")
    elif growth[0] > 0:
        notes.append(
            f"the populations oscillate together at about {frequency[0]:.3g} Hz: in white noise a mode grows at "
            f"{growth[0]:.3g}/s, so that this stationary state is unstable; a network's time averages may differ"
        )
    return {"collective_growth": growth, "collective_frequency": frequency}


def _item(pair, k):
    return float(pair[0][k]), float(pair[1][k])


def _tail_note(p, grid, lags):
    """The taper begins at half of the longest lag: what is left there is cut off."""
    value, error = lags
    n = grid.n_lags
    near = slice(1, max(n // 50, 4))
    size = float(np.max(np.abs(value[near])))
    middle = slice(int(0.5 * n), int(0.6 * n))
    left = abs(float(np.mean(value[middle])))
    if size > 0 and left > 0.01 * size and left > 3 * float(np.mean(error[middle])):
        return [f"{p.name}: {left / size:.1%} of the autocovariance is left at half of the longest lag, "
                f"{grid.lags[-1]:g}, where it is tapered off: a longer duration (or max_lag) is needed"]
    return []


def _settings(model, evidence):
    return {"input": model.solve.input, "samples": model.solve.samples, "replicas": model.solve.replicas,
            "settling sweeps": evidence["settling"], "averaged sweeps": evidence["averaged"],
            "damping": evidence["damping"]}


# ---- two times
def _closed_two_time(model):
    system, arrays, errors, states, history = solve_two_time_closed(model)
    out = _two_time_solution(model, "closed", system, arrays, errors, history, {"iterations": len(history)})
    for result, c in zip(out.populations.values(), states, strict=True):
        variance, error = result["state_variance"]
        relative = np.max(error) / max(float(np.max(variance)), 1e-300)
        result.quantities["state_covariance"] = c, np.full(c.shape, relative * float(np.max(np.abs(c))))
    return out


def _sampled_two_time(model, comm):
    _check_neurons(model)
    if model.solve.method == "march":
        from lft.meanfield.saddle.march import march

        system, total, evidence = march(model, comm)
        settings = {"samples": model.solve.samples, "replicas": model.solve.replicas}
    else:
        system, total, evidence = solve_two_time(model, comm)
        settings = _settings(model, evidence)
    method = "march" if model.solve.method == "march" else "sampling"
    out = _two_time_solution(model, method, system, total.mean, total.error, evidence["residuals"], settings)
    if method == "march":
        m = model.solve.samples // model.solve.replicas
        out.notes.append(f"march: beside the error it has the 1/M bias of a network, M = {m} paths per replica")
    return out


def _two_time_solution(model, method, system, values, errors, history, settings):
    populations = {}
    times = model.solve.dt * np.arange(system.n + 1)
    for a, p in enumerate(model.populations):
        pairs = list(zip(values, errors, strict=True))[ARRAYS * a : ARRAYS * (a + 1)]
        mean, second, covariance, state_mean, state_variance, mu, smooth = pairs
        has_state = hasattr(system.runners[a].neuron, "observe")
        q = {
            "mean": mean,
            "state_mean": state_mean if has_state else mu,
            "state_variance": state_variance if has_state else smooth,
            "input_mean": mu,
            "covariance": covariance,
            "second_moment": second,
        }
        if not has_state and _has_white_input(model, p):
            del q["state_variance"]
        if not _is_spiking(p):
            q["output_variance"] = tuple(np.diag(v).copy() for v in covariance)
        for value, _ in q.values():
            if not np.isfinite(value).all():
                raise ConvergenceError(f"population {p.name}: the solution is not finite", history)
        populations[p.name] = PopulationResult(q)
    return Solution("two-time", method, times, populations, model, history,
                    [*system.notes, *_coarse_notes(model)], settings)
