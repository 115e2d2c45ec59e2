"""Cuvée blends language models: recipe -> merged model -> measured score -> ranked page."""

from typing import TYPE_CHECKING, Any

from cuvee.version import __version__

if TYPE_CHECKING:
    from cuvee.api import load_recipe, load_stages, load_sweep, recipe_from_data, recipe_from_text
    from cuvee.comparison import Comparison, compare
    from cuvee.comparison.adapters import compare_adapters
    from cuvee.engine import (
        MergeResult,
        Options,
        Part,
        PartResult,
        join,
        merge,
        merge_part,
        merge_stages,
        merge_state_dicts,
        merge_tensors,
        merge_together,
        rebuild,
        run_plan,
    )
    from cuvee.engine.adapters import apply_adapter, combine_adapters, extract_adapter
    from cuvee.engine.resize import resize_vocabulary
    from cuvee.evaluation import Report, evaluate
    from cuvee.plan import Plan, make_plan
    from cuvee.recipe.recipe import Recipe

_ROOMS = {
    "Comparison": "cuvee.comparison",
    "MergeResult": "cuvee.engine",
    "Options": "cuvee.engine",
    "Part": "cuvee.engine",
    "PartResult": "cuvee.engine",
    "Plan": "cuvee.plan",
    "Recipe": "cuvee.recipe.recipe",
    "Report": "cuvee.evaluation",
    "apply_adapter": "cuvee.engine.adapters",
    "combine_adapters": "cuvee.engine.adapters",
    "compare": "cuvee.comparison",
    "compare_adapters": "cuvee.comparison.adapters",
    "evaluate": "cuvee.evaluation",
    "extract_adapter": "cuvee.engine.adapters",
    "join": "cuvee.engine",
    "load_recipe": "cuvee.api",
    "load_stages": "cuvee.api",
    "load_sweep": "cuvee.api",
    "make_plan": "cuvee.plan",
    "merge": "cuvee.engine",
    "merge_part": "cuvee.engine",
    "merge_stages": "cuvee.engine",
    "merge_state_dicts": "cuvee.engine",
    "merge_tensors": "cuvee.engine",
    "merge_together": "cuvee.engine",
    "rebuild": "cuvee.engine",
    "resize_vocabulary": "cuvee.engine.resize",
    "recipe_from_data": "cuvee.api",
    "recipe_from_text": "cuvee.api",
    "run_plan": "cuvee.engine",
}

__all__ = [
    "Comparison",
    "MergeResult",
    "Options",
    "Part",
    "PartResult",
    "Plan",
    "Recipe",
    "Report",
    "__version__",
    "apply_adapter",
    "combine_adapters",
    "compare",
    "compare_adapters",
    "evaluate",
    "extract_adapter",
    "join",
    "load_recipe",
    "load_stages",
    "load_sweep",
    "make_plan",
    "merge",
    "merge_part",
    "merge_stages",
    "merge_state_dicts",
    "merge_tensors",
    "merge_together",
    "rebuild",
    "recipe_from_data",
    "recipe_from_text",
    "resize_vocabulary",
    "run_plan",
]


def __getattr__(name: str) -> Any:
    """Import a room when something of it is first used: `import cuvee` alone stays fast."""
    if name not in _ROOMS:
        raise AttributeError(f"module 'cuvee' has no attribute '{name}'")
    import importlib

    return getattr(importlib.import_module(_ROOMS[name]), name)
