"""Quantities with units: what is read is what was written, everything else is refused by name."""

import pytest

from lft.errors import InputError
from lft.units import UNITS, Quantity, parse_quantity


@pytest.mark.parametrize(
    ("text", "si"),
    [
        ("42 um", 42e-6),
        ("42um", 42e-6),
        (" 20 ms ", 0.020),
        ("1e3 nm", 1e-6),
        ("0.5 s", 0.5),
        (".5 s", 0.5),
        ("2. s", 2.0),
        ("5 min", 300.0),
        ("2 h", 7200.0),
        ("+3 mm", 0.003),
        ("1.5e-2 m", 0.015),
        ("7 cm", 0.07),
        ("250 us", 250e-6),
    ],
)
def test_value_in_si(text, si):
    assert parse_quantity(text).si == pytest.approx(si, rel=1e-15)


@pytest.mark.parametrize("micro", ["um", "\u00b5m", "\u03bcm"])
def test_every_micro_sign_means_micro(micro):
    q = parse_quantity(f"42 {micro}")
    assert (q.value, q.unit, q.si) == (42.0, "um", pytest.approx(42e-6, rel=1e-15))


def test_decimal_milliseconds_are_the_nearest_double():
    assert [parse_quantity(f"{n} ms").si for n in (1, 3, 5, 7, 20, 33)] == [
        n / 1000 for n in (1, 3, 5, 7, 20, 33)
    ]


@pytest.mark.parametrize("unit", UNITS)
def test_text_and_quantity_are_inverse(unit):
    for value in (1.0, 0.25, 42.0, 1e-3):
        assert parse_quantity(str(Quantity(value, unit))) == Quantity(value, unit)


def test_scaled_keeps_the_unit():
    assert parse_quantity("42 um").scaled(2) == parse_quantity("84 um")
    assert parse_quantity("20 ms").dimension == "time" and parse_quantity("1 m").dimension == "length"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "42",
        "um",
        "42 parsec",
        "-1 ms",
        "0 ms",
        "nan ms",
        "inf s",
        "1e999 s",
        "4 2 um",
        "42 um um",
        "42 m s",
        "1,5 ms",
        "0x10 ms",
        42,
        1.5,
        None,
        True,
        ["42 um"],
    ],
)
def test_everything_else_is_refused_by_name(text):
    with pytest.raises(InputError, match="spacing of axis x = ") as error:
        parse_quantity(text, name="spacing of axis x")
    assert repr(text) in str(error.value) and "um" in str(error.value)


def test_dimension_is_enforced_and_the_valid_units_are_listed():
    with pytest.raises(InputError, match=r"\(min, h, s, ms, us\)"):
        parse_quantity("42 um", "time")
    with pytest.raises(InputError, match=r"\(m, cm, mm, um, nm\)"):
        parse_quantity("20 ms", "length")
