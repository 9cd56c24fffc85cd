"""``lft meanfield``: self-consistent means and covariances of a model file."""

from __future__ import annotations

from lft.archive import check_output, on_root
from lft.meanfield.reading import read_model
from lft.meanfield.result import save_solution
from lft.meanfield.solver import solve


def solve_file(args, comm):
    """Solve and write what the command line asks for; returns (Solution, notes)."""
    model = read_model(args.config)
    on_root(comm, check_output, args.output, args.overwrite)
    solution = solve(model, comm)
    on_root(comm, _write, solution, args)
    return solution, solution.notes


def _write(solution, args):
    save_solution(solution, args.output, args.overwrite)
    if args.plot:
        from lft.plotting.meanfields import plot_solution

        plot_solution(solution, args.plot)
