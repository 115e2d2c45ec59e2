"""The command `cuvee`. One file per verb: parse, call one core function, render. The only room that prints."""

from cuvee.cli.app import main

__all__ = ["main"]
