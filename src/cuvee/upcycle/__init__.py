"""Dense models of one shape put together as the experts of one model."""

from cuvee.upcycle.recipe import Upcycling, is_mixture, read_upcycling
from cuvee.upcycle.run import plan_mixture, upcycle

__all__ = ["Upcycling", "is_mixture", "plan_mixture", "read_upcycling", "upcycle"]
