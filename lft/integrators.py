"""Symplectic schemes for molecular dynamics, as coefficient tables.

One step of size eps is  kick(c0 eps) drift(d0 eps) kick(c1 eps) ... drift eps kick(cn eps),  palindromic, so that the
trajectory is reversible and preserves volume.  Kicks and drifts each add up to 1.  The last kick of a step and the
first of the next are merged.
"""

from __future__ import annotations

from dataclasses import dataclass

from lft.errors import InputError


@dataclass(frozen=True)
class Scheme:
    """Kicks (n+1) and drifts (n) of one step; the violation of energy of a trajectory scales as eps^order."""

    name: str
    kicks: tuple[float, ...]
    drifts: tuple[float, ...]
    order: int
    source: str

    def pairs(self, steps, eps):
        """The (kick, drift) pairs of a whole trajectory, ending with a pure kick (drift 0)."""
        out, carry = [], 0.0
        for _ in range(steps):
            for kick, drift in zip(self.kicks[:-1], self.drifts, strict=True):
                out.append(((carry + kick) * eps, drift * eps))
                carry = 0.0
            carry = self.kicks[-1]
        return [*out, (carry * eps, 0.0)]


_LAMBDA = 0.1931833275037836  # minimizes the leading error of the five-stage scheme
_VARTHETA, _RHO = 0.08398315262876693, 0.2539785108410595
_LAMBDA4, _THETA4 = 0.6822365335719091, -0.03230286765269967
_OMELYAN = "Omelyan, Mryglod, Folk, Comput. Phys. Commun. 151, 272 (2003), doi 10.1016/S0010-4655(02)00754-3"

SCHEMES = {
    scheme.name: scheme
    for scheme in (
        Scheme("leapfrog", (0.5, 0.5), (1.0,), 2, "Duane et al., Phys. Lett. B 195, 216 (1987)"),
        Scheme("omelyan2", (_LAMBDA, 1 - 2 * _LAMBDA, _LAMBDA), (0.5, 0.5), 2, _OMELYAN),
        Scheme(
            "omelyan4",
            (
                _VARTHETA,
                _LAMBDA4,
                0.5 - _LAMBDA4 - _VARTHETA,
                0.5 - _LAMBDA4 - _VARTHETA,
                _LAMBDA4,
                _VARTHETA,
            ),
            (_RHO, _THETA4, 1 - 2 * (_THETA4 + _RHO), _THETA4, _RHO),
            4,
            _OMELYAN,
        ),
    )
}


def scheme(name):
    """The scheme of this name; raises InputError that lists the valid ones."""
    if name not in SCHEMES:
        raise InputError(f"integrator {name!r}: valid are {', '.join(SCHEMES)}")
    return SCHEMES[name]
