"""A recipe in mergekit's own words where it has them, and how Cuvée's output then differs from mergekit 0.1.5's."""

from collections.abc import Iterator

import yaml

from cuvee.plan.plan import Plan, merged_steps
from cuvee.recipe.language import MERGEKIT_METHODS
from cuvee.recipe.recipe import EIGHT_BITS, Recipe, Slice

OUR_KEYS = ("seed", "semantics", "compute_dtype", "weights", "post", "rounding", "prompt", "unlike_configs")

RANDOM = ("dare_linear", "dare_ties", "della", "della_linear")

OF_METHOD = {
    "arcee_fusion": "thresholds are exact quartiles of scores in float64; mergekit samples, and rounds the scores",
    "breadcrumbs": "of a tensor too small for the cut one entry stays; mergekit makes it zero",
    "breadcrumbs_ties": "of a tensor too small for the cut one entry stays; mergekit makes it zero",
    "della": "rows of one entry and high densities do not stop the merge",
    "della_linear": "rows of one entry and high densities do not stop the merge",
    "karcher": "very short tensors are averaged; mergekit makes them zero",
    "model_stock": "the share of the base stays between 0 and 1; `clamp: false` for mergekit's",
    "nearswap": "changes under 1e-6 move by t as all others do",
    "sce": "models weigh by their squares however small these are; mergekit lets all weigh the same under 1e-6",
    "ties": "entries of equal magnitude are kept by position, the earlier first; mergekit's choice may change",
}


def as_mergekit(recipe: Recipe) -> str | None:
    """Return the recipe as mergekit reads it, or None if it says something that mergekit cannot."""
    if _says_more(recipe):
        return None
    document = yaml.safe_load(recipe.text)
    for key in OUR_KEYS:
        document.pop(key, None)
    if isinstance(document.get("tokenizer"), str):
        document["tokenizer"] = {"source": document["tokenizer"]}
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True)


def _names_parts(part: Slice) -> bool:
    """Say whether a slice is of a module, or has a name for any of its models."""
    return bool(part.module) or any(source.name for source in part.sources)


def _says_more(recipe: Recipe) -> bool:
    """Say whether a recipe has something that mergekit lacks."""
    extensions = (
        recipe.merge_method not in MERGEKIT_METHODS,
        recipe.semantics != "mergekit",
        recipe.compute_dtype != "float32",
        recipe.rounding != "nearest",
        recipe.out_dtype in EIGHT_BITS,
        recipe.missing != "fail",
        recipe.unknown_layers != "refuse",
        recipe.head is not None,
        recipe.mtp is not None,
        recipe.weights is not None,
        bool(recipe.seed),
        bool(recipe.name),
        bool(recipe.post),
        recipe.align is not None,
        bool(recipe.stages),
        bool(recipe.groups),
        any(map(_names_parts, recipe.slices)),
        recipe.chat_template in list(map(str, recipe.models())),
    )
    return any(extensions)


def differences(plan: Plan) -> tuple[str, ...]:
    """Say how the output differs from mergekit's, for a recipe that mergekit can read; nothing for others."""
    if plan.making is not None:
        return plan.making.unlike_mergekit
    if as_mergekit(plan.recipe) is None:
        return ()
    return tuple(_differences(plan))


def _differences(plan: Plan) -> Iterator[str]:
    recipe = plan.recipe
    dtypes = {step.dtype for step in merged_steps(plan.steps)}
    if recipe.merge_method != "passthrough" and not dtypes <= {"F32", "F64"}:
        yield "computed in float32 and rounded once; with `compute_dtype: as_loaded` where mergekit rounds"
    if recipe.merge_method in RANDOM:
        yield f"other random masks: they follow from `seed: {recipe.seed}` and are the same every time"
    if recipe.merge_method in OF_METHOD:
        yield OF_METHOD[recipe.merge_method]
    if recipe.base_model is None and len(plan.models) > 1:
        yield f"config and tokenizer come from the first model, {plan.models[0]}; mergekit takes any of them"
    lists = [key for key, value in plan.config_changes.items() if isinstance(value, list)]
    if recipe.sliced and lists:
        yield f"what config.json lists by layer is cut along: {', '.join(lists)}"
    if recipe.chat_template in ("alpaca", "llama3", "mistral", "exaone"):
        yield f"chat_template: {recipe.chat_template} has the blanks of the format's definition; mergekit's has others"
    if recipe.tokenizer is not None and recipe.tokenizer.pad_to_multiple_of is None:
        yield "padding rows of the embedding are kept; mergekit cuts them"
