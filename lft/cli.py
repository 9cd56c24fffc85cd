"""The ``lft`` command: one short function per subcommand; exit code 0, 2 for bad input, 1 for a failure."""

from __future__ import annotations

import argparse
import functools
import json
import os
import sys
import time

from lft import threads
from lft.domain import launched_rank, launched_ranks, world
from lft.errors import InputError, LftError


class Parser(argparse.ArgumentParser):
    """Bad arguments are one line, not a page of usage."""

    def error(self, message):
        command = self.prog.removeprefix("lft").strip()
        raise InputError(f"{command}{': ' if command else ''}{message} (-h lists what is valid)")


def integer(text):
    """An option's value as int."""
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: valid is an integer") from None


def number(text):
    """An option's value as float."""
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: valid is a number") from None


@functools.cache
def build_parser():
    """The command line of CONTRACT: subcommands and their options."""
    parser = Parser(prog="lft", description="Lattice field theory engine for neural activity.")
    sub = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=Parser)

    def command(name, function, help):
        p = sub.add_parser(name, help=help, description=help)
        p.set_defaults(function=function)
        return p

    p = command("run", cmd_run, "simulate a configuration (TOML) or a fit (HDF5)")
    p.add_argument("config", metavar="CONFIG")
    p.add_argument("-o", "--output", required=True, metavar="ARCHIVE.h5")
    p.add_argument("--set", action="append", default=[], dest="settings", metavar="KEY.PATH=VALUE")
    p.add_argument("--overwrite", action="store_true")
    p.add_argument("--quiet", action="store_true", help="no progress")

    p = command("resume", cmd_resume, "finish the planned updates of an archive, or add more")
    p.add_argument("archive")
    p.add_argument("--updates", type=integer, metavar="N", help="N more than planned")
    p.add_argument("--quiet", action="store_true", help="no progress")

    p = command("anneal", cmd_anneal, "lowest action that simulated annealing finds")
    p.add_argument("config", metavar="CONFIG")
    p.add_argument("-o", "--output", required=True, metavar="GROUND.h5")
    p.add_argument("--set", action="append", default=[], dest="settings", metavar="KEY.PATH=VALUE")
    p.add_argument("--json", metavar="FILE")
    p.add_argument("--overwrite", action="store_true")

    p = command("status", cmd_status, "progress, rate, acceptance of an archive")
    p.add_argument("archive")
    p.add_argument("--json", metavar="FILE")

    p = command("analyze", cmd_analyze, "observables of an archive, correlators of it or of a recording")
    p.add_argument("archive", metavar="ARCHIVE.h5 or RECORDING")
    p.add_argument("--reweight", action="append", metavar="COUPLING=VALUE", help="at other couplings, e.g. K=0.442")
    p.add_argument("--json", metavar="FILE")
    p.add_argument("--correlators", action="store_true", help="also correlators of the saved configurations")
    p.add_argument("--matrices", metavar="FILE.h5", help="write Phi, Pi, lagged matrices, S(k), C(r, t) as arrays")
    p.add_argument("--lags", metavar="LIST", help="lags of the matrices, bins (0,1,2)")
    p.add_argument("--points", action="append", default=[], metavar="DISPLACEMENTS",
                   help='connected n-point function, such as "1,0,0;0,1,0"; may be repeated')
    p.add_argument("--max-lag", type=integer, default=32, metavar="N", help="longest distance and lag, sites or bins")
    p.add_argument("--blocks", type=integer, default=20, metavar="N", help="blocks of samples behind the errors")
    p.add_argument("--bin", metavar="DURATION", help='of a recording, such as "20 ms"')
    p.add_argument("--pitch", metavar="LENGTH", help='of a recording\'s lattice, such as "42 um"')
    p.add_argument("--window", metavar="START,STOP", help="part of a recording, seconds")
    p.add_argument("--units", metavar="LIST", help="units of a recording to keep: 0,3,10-20")
    p.add_argument("--plot", metavar="FILE.png")
    p.add_argument("--overwrite", action="store_true")

    p = command("scale", cmd_scale, "critical coupling and exponents from archives of several lattices")
    p.add_argument("archives", nargs="+", metavar="ARCHIVE.h5")
    p.add_argument("--coupling", metavar="NAME", help="the coupling that is tuned; default: the one that differs")
    p.add_argument("--omega", type=number, metavar="W", help="exponent of the leading correction to scaling")
    p.add_argument("--binder", type=number, metavar="U", help="where exponents are read off; default: last crossing")
    p.add_argument("--json", metavar="FILE")
    p.add_argument("--plot", metavar="FILE.png")
    p.add_argument("--overwrite", action="store_true")

    p = command("fit", cmd_fit, "couplings of a recording")
    p.add_argument("recording")
    p.add_argument(
        "--model", default="lattice",
        help="independent, lattice, neural, pairwise, k-pairwise, lagged, kinetic, glm, gaussian",
    )  # fmt: skip
    p.add_argument(
        "--method", default="pseudo", help="pseudo, exact, boltzmann, mean-field, tap, sessak-monasson, bethe, mpf"
    )
    p.add_argument("--accuracy", type=number, default=0.02, metavar="X", help="boltzmann: chains 1/X times the data")
    p.add_argument("--seed", type=integer, default=0, help="boltzmann: of the chains")
    p.add_argument("--bin", metavar="DURATION", help='such as "20 ms"')
    p.add_argument("-o", "--output", required=True, metavar="FIT.h5")
    p.add_argument("--test", type=number, default=0.2, metavar="FRACTION", help="held-out last part")
    p.add_argument("--reach", default="1,1", metavar="SPACE,TIME")
    p.add_argument("--diagonals", action="store_true")
    p.add_argument("--pitch", metavar="LENGTH", help='lattice spacing, such as "42 um"; default: found from positions')
    p.add_argument("--window", metavar="START,STOP", help="part of the recording, seconds")
    p.add_argument("--units", metavar="LIST", help="units to keep: 0,3,10-20")
    p.add_argument("--ridge", type=number, default=0.0, help="L2 penalty on couplings, nats")
    p.add_argument("--rank", type=integer, metavar="R", help="pairwise, pseudo: couplings of this rank")
    p.add_argument("--lags", type=integer, metavar="N", help="kinetic, glm, gaussian: longest lag, bins")
    p.add_argument("--basis", metavar="NAME:N:DURATION", help='glm: filters, such as "raised-cosine:5:100 ms"')
    p.add_argument("--own-basis", metavar="NAME:N:DURATION", help="kinetic, glm: of the own history, or none")
    p.add_argument("--family", metavar="NAME", help="glm: bernoulli (default) or poisson")
    p.add_argument("--link", metavar="NAME", help="glm, bernoulli: logit (default) or cloglog")
    p.add_argument("--refractory", metavar="DURATION", help="glm: no spike within this time of the last")
    p.add_argument("--input", action="append", metavar="TERM",
                   help='models of units: "events:8:-200 ms,500 ms", smooth:N, trial:N or covariates:FILE; repeatable')
    p.add_argument("--events", metavar="FILE", help="event times, s; default events_s of the recording")
    p.add_argument("--trials", metavar="START,STOP", help='trials around the events, such as "-500 ms,1 s"')
    p.add_argument("--check", nargs="?", const="", metavar="FILE.png", help="the fit beside a simulation of it")
    p.add_argument("--compare", metavar="MODEL,...", help="rank models by held-out score; the selected one is saved")
    p.add_argument("--bin-scan", metavar="DURATION,...", help='also fit at other widths, such as "5 ms,10 ms,20 ms"')
    p.add_argument("--heat", nargs="?", const="", metavar="FILE.png", help="specific heat around the fit")
    p.add_argument("--penalty", metavar="NAME", help="l1, l2 or group, on the couplings of arbitrary units")
    p.add_argument("--strength", metavar="NATS", help="of the penalty, or auto (default): by cross-validation")
    p.add_argument("--folds", type=integer, metavar="N", help="blocks of time of the cross-validation (default 5)")
    p.add_argument("--rule", metavar="NAME", help="best (default) or one-se")
    p.add_argument("--mix", type=number, metavar="X", help="l1, group: share of a quadratic part")
    p.add_argument("--refit", action="store_true", help="l1, group: selected couplings again, without penalty")
    p.add_argument("--bootstrap", type=integer, metavar="N", help="fits of N recordings made of blocks of this one")
    p.add_argument("--posterior", type=integer, metavar="N", help="posterior, N samples in each of 4 chains")
    p.add_argument("--prior", metavar="NAME:SCALE", help="gaussian (default, gaussian:1), laplace, hierarchical")
    p.add_argument("--discovery", type=number, metavar="Q", help="which couplings exist, at a false discovery rate")
    p.add_argument("--procedure", metavar="NAME", help="discovery: bh (default), by, storey")
    p.add_argument("--surrogates", type=integer, metavar="N", help="discovery: null from N shifts of the units in time")
    p.add_argument("--power", type=number, metavar="J", help="how long a recording must be to find this coupling")
    p.add_argument("--json", metavar="FILE")
    p.add_argument("--plot", metavar="FILE.png")
    p.add_argument("--overwrite", action="store_true")

    p = command("flow", cmd_flow, "renormalization flow of an archive or a recording")
    p.add_argument("source", help="archive or recording; run configuration; FIT.h5 (inverse map)")
    p.add_argument("-o", "--output", required=True, metavar="FLOW.h5")
    p.add_argument("--method", default="refit", help="refit (default), mcrg, matching, prg, inverse")
    p.add_argument("--operators", metavar="EVEN,ODD or NAMES", help="mcrg, matching, refit: how many, or 'h K[1,0]'")
    p.add_argument("--estimator", default="pseudo", help="refit --operators: pseudo (likelihood) or moments")
    p.add_argument("--truncation", action="store_true", help="refit: fit a larger space too, report what it adds")
    p.add_argument("--against", metavar="ARCHIVE.h5", help="matching: the theory on a smaller lattice")
    p.add_argument("--blocking", help="majority, decimation, average, or, k-of-n")
    p.add_argument("--k", type=integer, help="k-of-n: spikes that make a block spike")
    p.add_argument("--factor", default="2", metavar="B or BX,BY,BT", help="sites of a block per axis (default 2)")
    p.add_argument("--levels", type=integer, default=3, metavar="N", help="blockings after level 0 (default 3)")
    p.add_argument("--to-spacing", metavar="LENGTH", help='inverse map: spacing of the finer lattice, such as "50 um"')
    p.add_argument("--to-bin", metavar="DURATION", help='inverse map: its time step, such as "1 ms"')
    p.add_argument("--surround", type=integer, metavar="N", help="inverse map: pitches of tissue around the array")
    p.add_argument("--configurations", type=integer, metavar="N", help="inverse map: size of the last simulations")
    p.add_argument("--bin", metavar="DURATION", help='recordings: width of a time bin, such as "20 ms"')
    p.add_argument("--pitch", metavar="LENGTH", help='recordings: distance of electrodes, such as "42 um"')
    p.add_argument("--reach", default="1,1", metavar="SPACE,TIME", help="refit, inverse map: farthest couplings fitted")
    p.add_argument("--diagonals", action="store_true", help="refit, inverse map: fit diagonal couplings too")
    p.add_argument("--window", metavar="START,STOP", help="prg: part of the recording, seconds")
    p.add_argument("--units", metavar="LIST", help="prg: units to keep: 0,3,10-20")
    p.add_argument("--surrogates", type=integer, metavar="N", help="prg: surrogates per null (default 19)")
    p.add_argument("--nulls", metavar="LIST", help="prg: shuffled,circular,independent,latent")
    p.add_argument("--bins", metavar="LIST", help='prg: further bin widths, such as "5 ms,50 ms"')
    p.add_argument("--blocks", type=integer, metavar="N", help="prg: time blocks for the errors")
    p.add_argument("--pairing", metavar="HOW", help="prg: held-out (default), same, normalized")
    p.add_argument("--seed", type=integer, default=0, help="prg: of surrogates and unit subsets")
    p.add_argument("--json", metavar="FILE")
    p.add_argument("--plot", metavar="FILE.png")
    p.add_argument("--overwrite", action="store_true")

    p = command("meanfield", cmd_meanfield, "self-consistent means and covariances of a network of neurons")
    p.add_argument("config", metavar="MODEL.toml")
    p.add_argument("--compare", metavar="OTHER.toml", help="both models side by side, as a table and in the figure")
    p.add_argument("--match", metavar="TARGET", help="a model file or a recording whose statistics to reproduce")
    p.add_argument("--free", metavar="KEY,KEY", help="parameters to match: population.x.noise,connection.1.std")
    p.add_argument("--statistics", metavar="LIST", help="what to match: state_mean,state_autocovariance,pair_spread")
    p.add_argument("--bin", metavar="DURATION", help='average outputs over bins: "20 ms" (recordings, spikes)')
    p.add_argument("-o", "--output", required=True, metavar="MF.h5")
    p.add_argument("--json", metavar="FILE")
    p.add_argument("--plot", metavar="FILE.png")
    p.add_argument("--overwrite", action="store_true")

    p = command("report", cmd_report, "one self-contained page with figures of archives, fits, flows and solutions")
    p.add_argument("archives", nargs="+", metavar="FILE", help="what lft wrote (HDF5), JSON, PNG, SVG")
    p.add_argument("-o", "--output", required=True, metavar="REPORT.html")
    p.add_argument("--overwrite", action="store_true")

    p = command("demo", cmd_demo, "the whole path on a recording that the engine itself makes")
    p.add_argument("-o", "--output", default="lft-demo", metavar="DIR")
    p.add_argument("--overwrite", action="store_true")

    p = command("bench", cmd_bench, "rates of every kernel on this machine")
    p.add_argument("--only", default="*", metavar="PATTERN", help="kernels whose name matches, e.g. 'ising-*'")
    p.add_argument("--json", metavar="FILE")

    p = command("info", cmd_info, "versions, MPI library, instruction sets")
    p.add_argument("--json", metavar="FILE")
    return parser


def check_paths(args):
    """Complain about every output before anything is computed: nothing is written over what is being read."""
    given = vars(args)
    source = next((given[n] for n in ("config", "archive", "recording", "source") if n in given), None)
    outputs = [given[n] for n in ("output", "json", "plot", "matrices") if given.get(n) not in (None, "-")]
    sources = [*given.get("archives", ()), *([] if source is None else [source])]
    sources += [given[n] for n in ("compare", "match") if given.get(n)]
    for path in outputs:
        if any(os.path.exists(path) and os.path.exists(s) and os.path.samefile(path, s) for s in sources):
            raise InputError(f"{path}: is read by this command; give the output another name")
    if len(set(map(os.path.abspath, outputs))) < len(outputs):
        raise InputError(f"{', '.join(outputs)}: two outputs share one name; give each its own")
    if given.get("plot"):
        from lft.archive import check_output
        from lft.plotting import check_figure_path

        check_figure_path(args.plot)
        check_output(args.plot, args.overwrite)
    if given.get("matrices"):
        from lft.archive import check_output

        check_output(args.matrices, args.overwrite)
    if given.get("json") not in (None, "-"):
        from lft.archive import check_json

        check_json(args.json)


def write_json(data, target):
    """Write JSON to a file, or to standard output for ``-``."""
    text = json.dumps(data, indent=2, allow_nan=False)
    if target == "-":
        print(text)
        return
    from lft.archive import write_text

    write_text(text + "\n", target)


def cmd_run(args, comm):
    from lft.config import read_config
    from lft.simulation import run

    chain = run(read_config(args.config, args.settings), args.output, comm, args.overwrite, args.quiet)
    _report_run(chain, args.output, comm)


def cmd_resume(args, comm):
    from lft.simulation import resume

    _report_run(resume(args.archive, args.updates, comm, args.quiet), args.archive, comm)


def _report_run(chain, path, comm):
    if comm is not None and comm.Get_rank():
        return
    t, total = chain.state.t, chain.schedule.total
    if t < total:
        print(f"{path}: stopped at update {t} of {total}; continue with: lft resume {path}")
    else:
        print(f"{path}: {t} updates done")
    if chain.counters.proposed_total and not chain.counters.accepted_total:
        print(
            "warning: nothing was ever accepted: the chain stands still; take smaller steps (hmc: more steps or a "
            "shorter length, metropolis: a smaller width) or another start",
            file=sys.stderr,
        )


def cmd_anneal(args, comm):
    from lft.commands.anneal import anneal_config, format_ground

    data, notes = anneal_config(args, comm)
    if comm is not None and comm.Get_rank():
        return
    if args.json:
        write_json(data, args.json)
    if args.json != "-":
        print(format_ground(data))
    for note in notes:
        print(f"warning: {note}", file=sys.stderr)


def cmd_status(args, comm):
    from lft.commands.report import status

    data = status(args.archive)
    if args.json:
        write_json(data, args.json)
    if args.json != "-":
        for name, value in data.items():
            print(f"{name:22} {f'{value:.4g}' if isinstance(value, float) else value}")


def cmd_analyze(args, comm):
    from lft.commands.report import analyze_source, at_target

    if args.reweight:
        return _analyze_reweighted(args)
    data, words, notes, estimates, result = analyze_source(args, comm)
    if comm is not None and comm.Get_rank():
        return
    if args.plot and result is not None:
        from lft.plotting import plot_correlators

        plot_correlators(result, args.plot)
    elif args.plot:
        from lft.analysis.tempered import plain
        from lft.archive import Archive
        from lft.plotting import plot_archive

        with Archive(args.archive) as archive:
            plot_archive(plain(archive), at_target(archive, estimates), args.plot)
    if args.json:
        write_json(data, args.json)
    if args.json != "-":
        print(words)
    for note in notes:
        print(f"warning: {note}", file=sys.stderr)


def _analyze_reweighted(args):
    from lft.commands.scale import reweighted

    if args.plot:
        raise InputError("--plot: not together with --reweight")
    data, lines, notes = reweighted(args.archive, args.reweight)
    if args.json:
        write_json(data, args.json)
    if args.json != "-":
        print("\n".join(lines))
    for note in notes:
        print(f"warning: {note}", file=sys.stderr)


def cmd_scale(args, comm):
    from lft.commands.scale import as_json, scale_archives, table

    result, found, points, notes = scale_archives(args.archives, args.coupling, args.omega, args.binder)
    if args.plot:
        from lft.plotting import plot_scaling

        plot_scaling(result, args.plot, found, points)
    if args.json:
        write_json(as_json(result, found), args.json)
    if args.json != "-":
        print(table(result, found))
    for note in notes:
        print(f"warning: {note}", file=sys.stderr)


def cmd_fit(args, comm):
    from lft.commands.fit import fit_recording

    fit, notes = fit_recording(args, comm)
    if comm is not None and comm.Get_rank():
        return
    if args.json:
        from lft.inference.result import fit_json

        write_json(fit_json(fit), args.json)
    if args.plot:
        from lft.plotting import plot_fit

        plot_fit(fit, args.plot)
    if args.json != "-":
        print(fit, *getattr(fit, "findings", ()), sep="\n")
    if hasattr(fit, "verdict"):
        from lft.commands.fit_check import show

        show(fit, args)
    for note in [*notes, *fit.warnings]:
        print(f"warning: {note}", file=sys.stderr)


def cmd_flow(args, comm):
    from lft.commands.flow import flow_source

    flow, notes = flow_source(args)
    if args.json:
        write_json(flow.as_json(), args.json)
    if args.json != "-":
        print(flow.table())
    for note in notes:
        print(f"warning: {note}", file=sys.stderr)


def cmd_meanfield(args, comm):
    from lft.commands.meanfield import solve_file

    solution, notes, more = solve_file(args, comm)
    if comm is not None and comm.Get_rank():
        return
    if args.json:
        write_json({**solution.as_json(), **{name: found.as_json() for name, found in more.items()}}, args.json)
    if args.json != "-":
        print("\n".join([solution.table(), *(found.table() for found in more.values())]))
    for note in notes:
        print(f"warning: {note}", file=sys.stderr)


def cmd_report(args, comm):
    from lft.commands.page import write_report

    write_report(args.archives, args.output, args.overwrite)
    print(f"{args.output}: {len(args.archives)} files")


def cmd_demo(args, comm):
    from lft.commands.demo import demo

    demo(args.output, args.overwrite)


def cmd_bench(args, comm):
    from lft.commands.bench import bench, format_bench

    data = bench(only=args.only)
    if args.json:
        write_json(data, args.json)
    if args.json != "-":
        print(format_bench(data))


def cmd_info(args, comm):
    from lft.commands.report import info

    data = info()
    if args.json:
        write_json(data, args.json)
    if args.json != "-":
        for name, value in data.items():
            print(f"{name:18} {value}")


COMMANDS = (
    "run", "resume", "anneal", "status", "analyze", "scale", "fit", "flow", "meanfield", "report", "demo", "bench",
    "info",
)  # fmt: skip
PARALLEL = ("run", "resume", "anneal", "analyze", "meanfield")
SHARED = ("fit",)  # parallel where a launcher starts several ranks; alone without MPI


def main(argv=None):
    """Entry point; returns the exit code."""
    comm = channel = None
    try:
        args = build_parser().parse_args(argv)
        if args.command is None:
            raise InputError(f"give a command: {', '.join(COMMANDS)} (lft -h explains them)")
        threads.count()  # a wrong number is found out now, not by the first kernel that asks for it
        if args.command in PARALLEL or launched_ranks() > 1:
            comm = world()
            channel = comm.Dup() if comm is not None else None
        if comm is not None and args.command not in (*PARALLEL, *SHARED):
            if comm.Get_rank():
                return 0  # a batch script may start everything with srun: rank 0 does it, the others are done
            comm = channel = None
        check_paths(args)
        args.function(args, comm)
        return 0
    except LftError as error:
        return _fail(_printable(error), 2 if isinstance(error, InputError) else 1, channel)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # the reader of a pipe went away: not our failure
        return 0
    except KeyboardInterrupt:
        return _fail("interrupted", 1, channel)
    except MemoryError as error:
        return _fail(f"out of memory: {error}", 1, channel)
    except OSError as error:
        message = f"{error.filename or ''}: {error.strerror or error}".lstrip(": ")
        return _fail(_printable(message), 1, channel)
    except Exception:
        if comm is None:
            raise
        import traceback

        return _fail(f"rank {comm.Get_rank()}: {traceback.format_exc()}", 1, channel)


def _printable(message):
    """One line, whatever a file name or a damaged file puts into it."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(message))


def _fail(message, code, channel):
    """Say it once, on standard error.

    If all ranks fail alike, rank 0 speaks and all exit; if one fails alone, it speaks and ends the whole job, since
    the others would wait for it for ever.
    """
    line = f"lft: {message}\n"
    if channel is None:
        if launched_rank() == 0:  # before MPI has started only the launcher's count tells who speaks
            sys.stderr.write(line)
        return code
    if _all_failed(channel):
        if channel.Get_rank() == 0:
            sys.stderr.write(line)
        return code
    sys.stderr.write(line)
    sys.stderr.flush()
    channel.Abort(code)
    return code


def _all_failed(channel, patience_s=1.0):
    """True if every rank comes here within the patience (a barrier on a channel of its own, which no other message
    can meet)."""
    request = channel.Ibarrier()
    end = time.monotonic() + patience_s
    while time.monotonic() < end:
        if request.Test():
            return True
        time.sleep(0.01)
    return False


if __name__ == "__main__":
    sys.exit(main())
