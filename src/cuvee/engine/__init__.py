"""Runs a Plan: reads ahead, computes block by block, writes behind; memory budget, journal, digests, provenance."""

from cuvee.engine.arrays import merge_tensors
from cuvee.engine.options import Options
from cuvee.engine.partial import Part
from cuvee.engine.parts import PartResult, join, merge_part, run_part
from cuvee.engine.rebuilding import rebuild
from cuvee.engine.run import MergeResult, merge, run_plan
from cuvee.engine.stages import merge_stages
from cuvee.engine.state_dicts import merge_state_dicts
from cuvee.engine.together import merge_together

__all__ = [
    "MergeResult",
    "Options",
    "Part",
    "PartResult",
    "join",
    "merge",
    "merge_part",
    "merge_stages",
    "merge_state_dicts",
    "merge_tensors",
    "merge_together",
    "rebuild",
    "run_part",
    "run_plan",
]
