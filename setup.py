"""Compiled kernels.  Everything else about the package stands in pyproject.toml."""

import copy
import os
import platform
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy
from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

# No fused multiply-add and no fast-math: every instruction set must give the same bits.  errno and floating-point
# traps are not used, and without them the compiler can vectorize square roots and selections.
FLAGS = ["-O3", "-g0", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math"]
if os.environ.get("LFT_NATIVE"):  # opt in: faster generic loops on this machine only
    FLAGS.append("-march=native")


def has_openmp() -> bool:
    """Whether the compiler builds and links OpenMP; without it the kernels run on one thread."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "probe.c"
        source.write_text("#include <omp.h>\nint main(void) { return omp_get_max_threads() < 1; }\n")
        command = [*os.environ.get("CC", "cc").split(), "-fopenmp", str(source), "-o", str(source.with_suffix(""))]
        try:
            return subprocess.run(command, capture_output=True).returncode == 0
        except OSError:
            return False


openmp = ["-fopenmp"] if has_openmp() else []
kernels = Path("lft/_kernels")
c_sources = {  # hand-written C of each extension
    "noise": ["philox.c"],
    "ising_bits": ["bitslice.c"],
    "phi4_waves": ["wavefront.c"],
    "local_fields": ["cached.c", "blocked.c", "philox.c"],
    "sparse": ["sparse_real.c", "sparse_bits.c", "philox.c"],
    "roofs": ["supply.c"],
    "operators": ["products.c"],
    "gibbs": ["chains64.c", "philox.c"],
    "lagged": ["lagged_lanes.c"],
    "neurons": ["upstroke.c"],
    "pseudo": ["pseudo_rows.c"],
    "percolation": ["percolate.c"],
}

# The loops over real fields are compiled once per instruction set and chosen at run time (lft/_kernels/__init__.py).
x86 = platform.machine().lower() in ("x86_64", "amd64") and sys.platform != "win32"
variants = {
    "real_avx2": ["-mavx2"],
    "real_avx512": ["-mavx512f", "-mavx512dq", "-mavx512vl", "-mprefer-vector-width=512"],
}


def headers(sources: list[Path]) -> list[str]:
    """Files of the folders of kernels that these sources include, directly or not: what they are compiled again for."""
    found, todo = set(), list(sources)
    while todo:
        for name in re.findall(r'(?:include|extern from) "([\w.]+)"', todo.pop().read_text()):
            new = {folder / name for folder in (kernels, kernels / "c") if (folder / name).exists()} - found
            found |= new
            todo += new
    return [str(path) for path in sorted(found)]


def extension(source: Path) -> Extension:
    sources = [source, *(kernels / "c" / name for name in c_sources.get(source.stem, []))]
    return Extension(
        f"lft._kernels.{source.stem}",
        [str(path) for path in sources],
        include_dirs=[str(kernels), str(kernels / "c"), numpy.get_include()],
        depends=[*map(str, kernels.glob("*.pxd")), *headers(sources)],
        define_macros=[("NPY_NO_DEPRECATED_API", "NPY_1_7_API_VERSION")],
        extra_compile_args=[*FLAGS, *openmp, *variants.get(source.stem, [])],
        extra_link_args=openmp,
    )


class Build(build_ext):
    """As many compilers at once as there are cores; sources that extensions share are compiled for each."""

    def finalize_options(self):
        super().finalize_options()
        self.parallel = self.parallel or os.cpu_count()

    def build_extension(self, ext):
        apart = copy.copy(self)
        apart.build_temp = os.path.join(self.build_temp, ext.name)
        super(Build, apart).build_extension(ext)


setup(
    cmdclass={"build_ext": Build},
    ext_modules=cythonize(
        [extension(p) for p in sorted(kernels.glob("*.pyx")) if x86 or p.stem not in variants],
        language_level=3,
        include_path=["."],
    )
)
