"""Figures as people read them."""

import pytest

from cuvee.amounts import points, signed


@pytest.mark.parametrize("noise", [-3e-16, 0.0, 3e-16])
def test_the_last_bits_of_a_mean_decide_nothing(noise: float) -> None:
    assert points(0.7925 + noise) == "79.2"
    assert signed(-0.0275 + noise) == "−2.8"


def test_points_have_one_decimal_and_no_negative_zero() -> None:
    assert points(0.62834) == "62.8"
    assert points(-1e-6) == "0.0"
    assert signed(0.04) == "+4.0"
