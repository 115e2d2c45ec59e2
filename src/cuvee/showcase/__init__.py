"""The demo: blends the bundled family, measures every model, ranks them, writes the page."""

from cuvee.showcase.board import FirstVerdict
from cuvee.showcase.run import Demo, run_demo

__all__ = ["Demo", "FirstVerdict", "run_demo"]
