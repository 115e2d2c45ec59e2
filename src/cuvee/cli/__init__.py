"""The command `cuvee`. One file per verb: parse, call one core function, render. The only room that prints."""

import gc

gc.set_threshold(200_000, 50, 100)  # modules are here to stay: looking for garbage among them took a sixth of the start

from cuvee.cli.door import main  # noqa: E402

__all__ = ["main"]
