"""The palette of all pages: what has to be read or found can be told from what it stands on, in both schemes."""

import re

import pytest

from cuvee.report.template import stylesheet

TEXT, DRAWING = 4.5, 3.0
"""The least ratios of WCAG 2.2: of text (1.4.3), and of borders of fields, lines and dots (1.4.11)."""


def palettes() -> dict[str, dict[str, str]]:
    """Return the colours by name, of light and dark."""
    light, dark = re.findall(r":root \{(.*?)\}", stylesheet(), re.DOTALL)[:2]
    return {"light": _colours(light), "dark": _colours(dark)}


def _colours(rules: str) -> dict[str, str]:
    return dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6});", rules))


def contrast(one: str, other: str) -> float:
    """Return the ratio of two colours by WCAG."""
    darker, lighter = sorted((_luminance(one), _luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def _luminance(colour: str) -> float:
    red, green, blue = (_linear(int(colour[start : start + 2], 16) / 255) for start in (1, 3, 5))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _linear(channel: float) -> float:
    return channel / 12.92 if channel <= 0.03928 else ((channel + 0.055) / 1.055) ** 2.4


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(
    ("name", "least"),
    [
        *((name, TEXT) for name in ("ink", "quiet", "wine", "good", "bad")),
        *((name, DRAWING) for name in ("field", "wine-soft", "guide")),
    ],
)
def test_colours_stand_out_from_both_grounds(scheme: str, name: str, least: float) -> None:
    colours = palettes()[scheme]
    for ground in ("paper", "surface"):
        assert contrast(colours[name], colours[ground]) >= least, ground


def test_the_ratio_of_black_and_white_is_the_one_of_wcag() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
