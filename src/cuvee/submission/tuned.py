"""Merges recipes that name a competition's texts: statistics are made of them first, and the merge is aligned by them.

The judge and a participant's `cuvee merge` do the same here, so that both come to the same weights.
"""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from cuvee.calibrate import merge_aligned
from cuvee.checkpoint.write import refuse_existing
from cuvee.engine import MergeResult, merge_stages
from cuvee.engine.options import Options, RunOptions
from cuvee.errors import RecipeError, several
from cuvee.hub import Hub
from cuvee.plan.resolve import place_of
from cuvee.plan.statistics import statistics_name
from cuvee.recipe.recipe import Recipe
from cuvee.recipe.reference import ModelRef
from cuvee.submission.tuning import Use, uses_of

if TYPE_CHECKING:
    from cuvee.calibrate.outcome import Aligned

Places = Mapping[str, Path]


@dataclass(frozen=True)
class Tuned:
    """A merge, aligned or not, and how many tokens of each text were read, by the words that the recipe has for it."""

    outcome: "MergeResult | Aligned"
    tokens: Mapping[str, int]


def merge_tuned(
    stages: Sequence[Recipe],
    out: Path | str,
    texts: Places,
    *,
    places: Places | None = None,
    hub: Hub | None = None,
    custom_code: bool = False,
    **options: Unpack[RunOptions],
) -> Tuned:
    """Merge recipes whose texts are at the given places. `make_plan` describes `places`, `cuvee.Options` the options.

    A model's statistics are of all positions of the first 65,536 tokens of its text, as `cuvee calibrate` makes them.
    Raises RecipeError for what cannot be tuned, and the errors of merging and aligning.
    """
    hub, out, chosen = hub or Hub(), Path(out).absolute(), Options(**options)
    refuse_existing(out, overwrite=chosen.overwrite)
    _check(stages)
    tokens: dict[str, int] = {}
    with _room_beside(out) as folder:
        statistics: dict[str, Path] = {}
        for number, (recipe, model, reference) in enumerate(_to_collect(stages)):
            statistics[statistics_name(model, reference)] = folder / f"{number:04d}"
            name = _name_of(model, recipe, places)
            read = _collect(name, texts[reference], folder / f"{number:04d}", hub, chosen)
            tokens[reference] = tokens.get(reference, 0) + read
        if stages[-1].align is None:
            merged = merge_stages(
                stages, out, places=places, statistics=statistics, hub=hub, custom_code=custom_code, **options
            )
            return Tuned(merged, tokens)
        aligned = merge_aligned(
            stages[0],
            out,
            texts=texts,
            places=places,
            statistics=statistics,
            hub=hub,
            custom_code=custom_code,
            **options,
        )
    named = {use.model: use.reference for use in uses_of(stages) if use.key == "text"}
    for figures in aligned.texts:
        reference = named[figures.expert]
        tokens[reference] = tokens.get(reference, 0) + figures.tokens
    return Tuned(aligned, tokens)


def _check(stages: Sequence[Recipe]) -> None:
    """Raise RecipeError for an alignment of stages, and for statistics of what a stage makes."""
    where, made = stages[-1].source, {recipe.name for recipe in stages}
    problems = []
    aligns = any(recipe.align is not None for recipe in stages)
    if aligns and len(stages) > 1:
        message = f"'align' is for a recipe of one stage, and this has {len(stages)}"
        problems.append(RecipeError(message, where=where, hint="merge first, and use `cuvee align` then"))
    for use in uses_of(stages):
        if _is_collected(use) and use.model in made:
            message = f"'{use.reference}': there are no statistics of '{use.model}', which an earlier stage makes"
            problems.append(RecipeError(message, where=where, hint="take statistics of the models that you start from"))
    if problems:
        raise several(problems)


def _is_collected(use: Use) -> bool:
    return use.key == "statistics" and use.text is not None


def _to_collect(stages: Sequence[Recipe]) -> Iterator[tuple[Recipe, ModelRef, str]]:
    """Yield each model with the text that its statistics are of, once, and a recipe that names both."""
    seen = set()
    for recipe in stages:
        wanted = {use.model: use for use in uses_of((recipe,)) if _is_collected(use)}
        for model in recipe.models():
            use = wanted.get(str(model))
            if use is not None and use not in seen:
                seen.add(use)
                yield recipe, model, use.reference


def _name_of(model: ModelRef, recipe: Recipe, places: Places | None) -> str:
    """Return what a model is called from the current folder."""
    if places is not None:
        adapter = f"+{places[f'+{model.adapter_text}']}" if model.adapter else ""
        return f"{places[str(model)]}{adapter}"
    here = place_of(model, recipe.folder)
    if here is None or model.adapter is not None:
        return str(model)
    return str(here)


def _collect(model: str, text: Path, out: Path, hub: Hub, options: Options) -> int:
    """Make the statistics of a model on a text; return how many tokens of it were read."""
    from cuvee.calibrate.calibrate import calibrate
    from cuvee.calibrate.collect import Collecting

    record = calibrate(model, str(text), out, Collecting(), device="cpu", hub=hub, progress=options.heard)
    return record.text.tokens


@contextmanager
def _room_beside(out: Path) -> Iterator[Path]:
    """Give a folder for statistics, on the disk that the output goes to, which is gone afterwards."""
    folder = out.with_name(f".{out.name}.statistics")
    shutil.rmtree(folder, ignore_errors=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
