"""Runs a method's surveys over a step, or over all steps where a survey is about the whole model."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import count
from typing import Any

import numpy as np
from blake3 import blake3

from cuvee.engine.blocks import Blocks
from cuvee.kernels import Block, Kernels
from cuvee.method import Method
from cuvee.ops.survey import Fold, Situation, Supplied, Survey
from cuvee.plan.plan import MergeStep, merged_steps
from cuvee.plan.settings import as_arrays

Found = Mapping[str, Supplied]


def random_keys(step: MergeStep, seed: int) -> tuple[tuple[int, int], ...]:
    """Return the keys of each model's draws: they depend on seed, model, occurrence and tensor, nothing else."""
    return tuple(random_key(str(seed), given.identity, str(given.occurrence), step.name) for given in step.inputs)


def rounding_key(step: MergeStep, seed: int) -> tuple[int, int]:
    """Return the key of the draws of random rounding: it depends on seed and output tensor."""
    return random_key(str(seed), "rounding", step.name)


def random_key(*words: str) -> tuple[int, int]:
    """Return the two 32-bit halves of a key that follows from the words, for draws by `Kernels.uniform`."""
    digest = blake3("\0".join(words).encode()).digest(8)
    return int.from_bytes(digest[:4], "little"), int.from_bytes(digest[4:], "little")


Reduce = Callable[[Fold], Any]
"""Runs a fold over all the blocks that a survey is about and returns the final state."""

Known = Callable[[Sequence[object], Callable[[], Any]], Any]
"""Takes a question and what finds the answer; returns the answer."""


def survey_step(
    method: Method, step: MergeStep, blocks: Blocks, kernels: Kernels, semantics: str, seed: int, known: Found
) -> dict[str, Supplied]:
    """Run a step's surveys in sequence. Results `known` for the whole model are not surveyed again."""
    found: dict[str, Supplied] = {}
    for name, survey in method.surveys.items():
        if name in known:
            found[name] = known[name]
            continue
        here = Situation(
            models=len(step.inputs),
            elements=step.elements,
            settings=_read(survey, step),
            semantics=semantics,
            kernels=kernels,
            shape=step.shape,
            dtype=blocks.dtype,
            keys=random_keys(step, seed),
            room=blocks.room,
            shared=blocks.is_shared,
            found=found,
        )
        found[name] = run_survey(
            survey, here, lambda fold: blocks.known(fold.question, partial(fold_blocks, fold, blocks))
        )
    return found


def survey_model(
    method: Method,
    steps: Sequence[MergeStep],
    kernels: Kernels,
    semantics: str,
    dtype: np.dtype,
    reduce: Reduce,
    known: Known = lambda question, run: run(),
) -> dict[str, Supplied]:
    """Run the surveys that are about the whole model. They know the results of earlier surveys of their kind.

    An answer that is `known` to the same question, of the same models, is not reduced again.
    """
    merges = merged_steps(steps)
    found: dict[str, Supplied] = {}
    question: list[object] = [semantics, str(dtype)]
    for name, survey in method.surveys.items() if merges else ():
        if survey.scope(semantics, merges[0].settings) != "model":
            continue
        here = Situation(
            models=len(merges[0].inputs),
            elements=sum(step.elements for step in merges),
            settings=_read(survey, merges[0]),
            semantics=semantics,
            kernels=kernels,
            dtype=dtype,
            whole_model=True,
            found=found,
        )
        question += [name, here.settings]
        found[name] = run_survey(survey, here, _asking(known, question, reduce))
    return found


def _read(survey: Survey, step: MergeStep) -> dict[str, Any]:
    """Return the settings that a survey says it reads, no others."""
    settings = as_arrays(step.settings)
    return {name: settings[name] for name in survey.reads if name in settings}


def _asking(known: Known, question: Sequence[object], reduce: Reduce) -> Reduce:
    turn = count()
    return lambda fold: known([*question, next(turn)], partial(reduce, fold))


def run_survey(survey: Survey, here: Situation, reduce: Reduce) -> Supplied:
    """Run a survey: give it the result of each fold it asks for until it has its answer."""
    generator = survey.run(here)
    try:
        fold = next(generator)
        while True:
            fold = generator.send(reduce(fold))
    except StopIteration as end:
        result: Supplied = end.value
        return result


def fold_blocks(fold: Fold, blocks: Iterable[Block]) -> Any:
    """Run a fold over the blocks of a tensor, in order."""
    state = fold.start()
    for block in blocks:
        state = fold.add(state, block)
        if fold.enough(state):
            break
    return state
