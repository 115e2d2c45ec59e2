"""A suggestion as lines for a terminal: the experts, their pairs, then advice with its error below."""

from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path
from textwrap import wrap

from cuvee.cli.comparison_table import mark
from cuvee.suggest import Changes, Suggestion

WIDTH = 100


def suggestion_lines(suggestion: Suggestion) -> Iterator[str]:
    """Yield the lines."""
    survey = suggestion.survey
    marks = [mark(place) for place in range(len(survey.changes.models))]
    yield f"base {survey.base}: {survey.figures.entries:,} entries in {survey.figures.tensors} tensors"
    yield ""
    yield from _experts(survey.changes, marks)
    yield ""
    yield from _pairs(survey.changes, marks)
    if suggestion.texts:
        yield ""
        yield from _losses(survey.changes, suggestion.texts, marks)
    yield ""
    for advice in suggestion.advice:
        yield from wrap(advice.sentence, WIDTH, initial_indent="- ", subsequent_indent="  ")
        yield from wrap(f"({advice.evidence})", WIDTH, initial_indent="  ", subsequent_indent="  ")
    if suggestion.unsaid:
        text = f"Not said, for nothing measured predicts it: {', '.join(suggestion.unsaid)}."
        yield from wrap(text, WIDTH, initial_indent="- ", subsequent_indent="  ")


def _experts(changes: Changes, marks: Sequence[str]) -> Iterator[str]:
    longest = max(len(name) for name in (*changes.models, "expert"))
    yield f"   {'expert':<{longest}} {'norm, % of base':>16} {'of the others':>14} {'effective rank':>15}"
    for place, name in enumerate(changes.models):
        norm, ratio, rank = changes.norms[place], changes.ratio(place), changes.ranks[place]
        yield f"{marks[place]:<2} {name:<{longest}} {100 * norm:>16.2f} {ratio:>13.2f}× {rank:>15.1f}"


def _pairs(changes: Changes, marks: Sequence[str]) -> Iterator[str]:
    yield f"{'pair':<7} {'cosine':>7} {'sign conflict':>14} {'shared directions':>18}"
    figures = zip(changes.cosines, changes.conflicts, changes.overlaps, strict=True)
    for pair, (cosine, conflict, overlap) in zip(combinations(marks, 2), figures, strict=True):
        name = "·".join(pair)
        yield f"{name:<7} {round(cosine, 3) + 0.0:>7.3f} {100 * conflict:>13.1f}% {100 * overlap:>17.1f}%"


def _losses(changes: Changes, texts: Sequence[str], marks: Sequence[str]) -> Iterator[str]:
    """Yield the loss of each model on each text."""
    longest = max(len(Path(text).name) for text in (*texts, "loss on"))
    yield f"{'loss on':<{longest}} {'base':>7}" + "".join(f" {name:>7}" for name in marks)
    for place, text in enumerate(texts):
        yield f"{Path(text).name:<{longest}}" + "".join(f" {row[place]:>7.3f}" for row in changes.losses)
