"""Dense models of one shape put together as the experts of one model."""

from cuvee.upcycle.recipe import Upcycling, read_upcycling
from cuvee.upcycle.run import upcycle

__all__ = ["Upcycling", "read_upcycling", "upcycle"]
