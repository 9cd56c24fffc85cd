"""Every action and geometry with every update that it takes can be tempered: energies are right, swaps only permute."""

import numpy as np
import pytest
from cases import CASES, name_of

from lft.chain import Schedule
from lft.observables import default_observables
from lft.rng import Key
from lft.tempering import Ladder, Tempering
from lft.updaters import HMC, HeatBath, Metropolis

UPDATERS = (Metropolis(), HeatBath(), HMC(2, 0.2))


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_every_pair_can_be_tempered(case):
    action, geometry = case.action, case.geometry
    names = ["", *(n for n, g in action.couplings.items() if n != "unit" and g is not None)]
    updaters = [u for u in UPDATERS if action.kind in u.kinds]
    for k, updater in enumerate(updaters):
        coupling = names[(len(geometry.shape) + k) % len(names)]
        ladder, observables = Ladder((0.4, 0.7, 1.0), coupling), default_observables(action, geometry)
        chain = Tempering(action, updater, geometry, Key(2), Schedule(0, 8), ladder, observables)
        chain.start("hot")
        chain.advance(3)
        before = sorted(row.tobytes() for row in chain.rows(lambda kind, a: a.copy()))
        for slot in chain._slots:
            slot.show(chain.t)
            E = chain._energy(slot)
            S = action.S(slot.phi)
            if not coupling:
                assert E == pytest.approx(S, rel=1e-11, abs=1e-11)
            else:
                half = Ladder((0.5, 1.0), coupling).scaled(action, 0.5)
                assert S - half.S(slot.phi) == pytest.approx(0.5 * E, rel=1e-9, abs=1e-9)
        low, middle, high = chain._slots
        low.trade(middle)
        middle.trade(high)
        after = sorted(row.tobytes() for row in chain.rows(lambda kind, a: a.copy()))
        assert before == after
        values = chain.measure()
        assert all(len(v) == 3 for v in values.values()) and np.isfinite(values["action_density"]).all()
        chain.close()
