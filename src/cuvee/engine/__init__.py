"""Runs a Plan: reads ahead, computes block by block, writes behind; memory budget, journal, digests, provenance."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cuvee.engine.arrays import merge_tensors
    from cuvee.engine.options import Options
    from cuvee.engine.partial import Part
    from cuvee.engine.parts import PartResult, join, merge_part, run_part
    from cuvee.engine.rebuilding import rebuild
    from cuvee.engine.run import MergeResult, merge, run_plan
    from cuvee.engine.stages import merge_stages
    from cuvee.engine.state_dicts import merge_state_dicts
    from cuvee.engine.together import merge_together

_FILES = {
    "MergeResult": "run",
    "Options": "options",
    "Part": "partial",
    "PartResult": "parts",
    "join": "parts",
    "merge": "run",
    "merge_part": "parts",
    "merge_stages": "stages",
    "merge_state_dicts": "state_dicts",
    "merge_tensors": "arrays",
    "merge_together": "together",
    "rebuild": "rebuilding",
    "run_part": "parts",
    "run_plan": "run",
}

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


def __getattr__(name: str) -> Any:
    """Import a file when something of it is first used: a plain merge starts without the other ways to merge."""
    if name not in _FILES:
        raise AttributeError(f"module 'cuvee.engine' has no attribute '{name}'")
    import importlib

    return getattr(importlib.import_module(f"cuvee.engine.{_FILES[name]}"), name)
