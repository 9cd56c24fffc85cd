"""Tests run in one process each, whoever started pytest; those that need ranks start a launcher of their own.

Under ``mpirun pytest`` the launcher's variables would make every MPI library below wait for ranks that belong
to somebody else, so they are dropped before anything else is imported.
"""

import os
import sys
from pathlib import Path

LAUNCHERS = (
    "PMI_",
    "PMIX_",
    "PALS_",
    "OMPI_",
    "PRTE_",
    "HYDI_",
    "HYDRA_",
    "MPIR_",
    "MPICH_",
    "MPI_LOCAL",
    "MV2_",
    "I_MPI_",
    "SLURM_",
)

for name in [n for n in os.environ if n.startswith(LAUNCHERS)]:
    del os.environ[name]

# Ranks that wait sleep (MPICH; Open MPI).  Where ranks outnumber cores, those that spin take the core from whom they
# wait for: an allreduce of four ranks on two busy cores costs 1.5 ms of processor time instead of 0.06.
os.environ["MPIR_CVAR_ENABLE_HEAVY_YIELD"] = os.environ["OMPI_MCA_mpi_yield_when_idle"] = "1"

# The children of the tests, some hundreds, share compiled bytecode: without it each compiles the package anew, which is
# half of its start.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# "tests.helpers" is importable from every folder; appended, so that an installed package is tested rather
# than the sources beside the tests
root = str(Path(__file__).resolve().parent.parent)
if root not in sys.path:
    sys.path.append(root)


def pytest_configure(config):
    """pytest-xdist hands out the files with the most tests first; the few long ones would then come last and alone."""
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False
