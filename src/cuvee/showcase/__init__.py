"""The demo: blends the bundled family, measures every model, ranks them, writes the page."""

from cuvee.showcase.run import Demo, run_demo

__all__ = ["Demo", "run_demo"]
