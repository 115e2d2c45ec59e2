"""Recipe + headers -> Plan. Reads no tensor."""

from cuvee.plan.make import make_plan
from cuvee.plan.plan import Forecast, Input, Making, MergeStep, Parent, Plan

__all__ = ["Forecast", "Input", "Making", "MergeStep", "Parent", "Plan", "make_plan"]
