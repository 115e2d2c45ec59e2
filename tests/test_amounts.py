"""Figures as people read them."""

import pytest

from cuvee.amounts import bytes_text, points, signed


@pytest.mark.parametrize("noise", [-3e-16, 0.0, 3e-16])
def test_the_last_bits_of_a_mean_decide_nothing(noise: float) -> None:
    assert points(0.7925 + noise) == "79.2"
    assert signed(-0.0275 + noise) == "−2.8"


def test_points_have_one_decimal_and_no_negative_zero() -> None:
    assert points(0.62834) == "62.8"
    assert points(-1e-6) == "0.0"
    assert signed(0.04) == "+4.0"


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (3140, "3.14 kB"), (999_600_000, "1 GB"), (1.37e12, "1.37 TB"), (2.5e15, "2500 TB")],
)
def test_bytes_have_three_digits_and_no_exponent(count: float, text: str) -> None:
    assert bytes_text(count) == text
