"""The contracts of the package: read this page first.

Every action is a list of named couplings ``g`` and conjugate operators ``O``, with ``S[phi] = sum_k g_k O_k[phi]``
and the weight ``exp(-S)``.  Simulation needs the site-local difference (or force) of S, reweighting and fitting need
``(g, O)``; no upper layer sees a formula.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from lft.field import Field
from lft.rng import Key


class State(NamedTuple):
    """All that a chain is; a checkpoint holds exactly this.

    ``phi`` is updated in place; ``t`` counts updates and is the time word of the random-number counter.
    """

    phi: Field
    t: int


class Info(NamedTuple):
    """What one update reports, for the local block: proposals, acceptances, energy change of a trajectory, seconds."""

    proposed: int
    accepted: int
    dH: float
    seconds: float


@runtime_checkable
class Action(Protocol):
    """A density exp(-S) on the configurations of a field."""

    name: str
    kind: str  # of the field: "spin", "gas", "real"
    couplings: Mapping[str, float | np.ndarray]

    def with_couplings(self, **changes: Any) -> Action:
        """The same action with other values of some couplings."""

    def displacements(self, geometry: Any) -> list[tuple[int, ...]]:
        """Steps (user's axis order) at which sites interact: they fix halo and coloring."""

    def kernel(self, plan: Any, geometry: Any) -> Any:
        """The compiled object that the generic loops accept."""

    def operators(self, phi: Field) -> dict[str, float | np.ndarray]:
        """O_k: extensive, of the shape of g_k, global, the same bits on every rank."""


@runtime_checkable
class Updater(Protocol):
    """Markov kernel that leaves exp(-S) invariant: a deterministic function of (state, key)."""

    name: str

    def step(self, action: Action, state: State, key: Key) -> tuple[State, Info]:
        """One update: every site is visited once (HMC: one trajectory)."""


@runtime_checkable
class Resident(Protocol):
    """What holds the values of a field in place of ``Field.data`` until somebody reads them (``Field.resident``).

    Its sums are those of the local block, exact integers; None means that it does not keep this sum.
    """

    def store(self) -> None:
        """Write block and halo to ``Field.data``; no messages: ranks may ask for it at different times."""

    def site_sum(self) -> int | None:
        """sum_x phi_x."""

    def bond_sum(self, displacement: tuple[int, ...]) -> int | None:
        """sum_x phi_x phi_(x+d), each pair by its lower site."""

    def plane_sums(self, axis: int) -> np.ndarray | None:
        """sum of phi over each local plane perpendicular to a storage axis."""


@runtime_checkable
class Observable(Protocol):
    """Numbers or arrays per configuration, global and identical on all ranks."""

    names: tuple[str, ...]
    axes: tuple[str, ...]
    doc: str

    def measure(self, action: Action, state: State) -> dict[str, float | np.ndarray]:
        """Values by name (collective)."""
