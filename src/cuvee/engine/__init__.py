"""Runs a Plan: reads ahead, computes block by block, writes behind; memory budget, digests, provenance."""

from cuvee.engine.arrays import merge_tensors
from cuvee.engine.run import MergeResult, merge, run_plan
from cuvee.engine.state_dicts import merge_state_dicts

__all__ = ["MergeResult", "merge", "merge_state_dicts", "merge_tensors", "run_plan"]
