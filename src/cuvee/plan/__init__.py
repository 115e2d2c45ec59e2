"""Recipe + headers -> Plan. Reads no tensor."""

from cuvee.plan.make import make_plan
from cuvee.plan.plan import Forecast, Input, MergeStep, Plan

__all__ = ["Forecast", "Input", "MergeStep", "Plan", "make_plan"]
