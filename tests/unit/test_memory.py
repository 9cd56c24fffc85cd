"""What a run is refused for before it starts: more memory than the machine has, clusters included."""

import pytest

import lft.simulation
from lft.actions import Ising
from lft.errors import InputError
from lft.geometry import Lattice
from lft.simulation import check_memory
from lft.updaters import Metropolis, Sequence, SwendsenWang, Wolff


@pytest.fixture
def megabytes(monkeypatch):
    """A machine of so many megabytes."""

    def set_to(n):
        sizes = {"SC_PAGE_SIZE": 1, "SC_PHYS_PAGES": n * 10**6}
        monkeypatch.setattr(lft.simulation.os, "sysconf", sizes.__getitem__)

    return set_to


@pytest.mark.parametrize("updater", [SwendsenWang(), Wolff(2), Sequence([Metropolis(), Wolff(2)])], ids=repr)
def test_clusters_count(megabytes, updater):
    action, lattice = Ising(K=0.4), Lattice((1000, 1000))
    megabytes(8)
    check_memory(lattice, action, 1, 1, Metropolis())  # 3 bytes per site
    with pytest.raises(InputError, match=r"0\.016 GB, this machine has 0\.008 GB"):
        check_memory(lattice, action, 1, 1, updater)  # and 13
    megabytes(17)
    check_memory(lattice, action, 1, 1, updater)
