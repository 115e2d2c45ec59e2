"""The final ranking as an event: who won, by how much, and how each team moved from the public board to the final."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

from cuvee.amounts import points, signed
from cuvee.competition.pages.board_page import Axis, axis_of
from cuvee.competition.views import FinalPlaceView, FinalView
from cuvee.report import Figure

MOST_LINES = 14
LEAST_APART = 15
MOST_NAMED, NAMED_OF_MANY = 5, 3
"""Teams that a sentence names, and how many it names where there are more."""

SLOPE_WIDTH, SLOPE_HEIGHT = 640, 340


@dataclass(frozen=True)
class Verdict:
    """Who won, as a sentence; `figure` is the winner's score, or what several share. `more` are further sentences."""

    figure: str
    sentence: str
    more: tuple[str, ...]
    is_clear: bool


@dataclass(frozen=True)
class Line:
    """A team's way from its public score (left) to its final one (right), in pixels; `label_y` keeps names apart."""

    name: str
    kind: str
    left: float
    right: float
    label_y: float
    gap: str


@dataclass(frozen=True)
class Drawing:
    """What is drawn: the axis of the rows, the lines of the slope, and by how many places each row moved."""

    axis: Axis
    lines: tuple[Line, ...]
    ticks: tuple[tuple[float, str], ...]
    moves: dict[int, int]
    width: int = SLOPE_WIDTH
    height: int = SLOPE_HEIGHT


def _may_be_first(place: FinalPlaceView) -> bool:
    return place.ranks is not None and place.ranks[0] == 1


def verdict_of(final: FinalView) -> Verdict | None:
    """Say who won and what beats what; None before there is a ranking of participants."""
    participants = [place for place in final.places if place.team.kind == "participant"]
    if not final.published or not participants:
        return None
    first = [place for place in participants if _may_be_first(place)]
    winner = participants[0]
    more = tuple(_more(winner, final.places))
    if len(first) > 1:
        sentence = f"{_who_share([place.team.name for place in first])}: the items do not tell them apart."
        return Verdict(points(winner.score.value), sentence, more, is_clear=False)
    return Verdict(points(winner.score.value), f"{winner.team.name} wins.", more, is_clear=True)


def _who_share(names: Sequence[str]) -> str:
    if len(names) <= MOST_NAMED:
        return f"{_listed(names)} share the first place"
    return f"{len(names)} teams share the first place, with {_listed(names[:NAMED_OF_MANY])} in front"


def _more(winner: FinalPlaceView, places: Sequence[FinalPlaceView]) -> list[str]:
    sentences = []
    who = winner.team.name
    for kind in ("baseline", "parent"):
        best = next((place for place in places if place.team.kind == kind), None)
        if best is not None:
            how_far = _how_far(winner.score.value - best.score.value)
            sentences.append(f"{who} stands {how_far} the best {kind}, {best.team.name}.")
    baseline = next((place for place in places if place.team.kind == "baseline"), None)
    participants = [place for place in places if place.team.kind == "participant"]
    if baseline is not None:
        behind = sum(place.score.value < baseline.score.value for place in participants)
        if behind:
            sentences.append(f"The baseline {baseline.team.name} stands above {behind} of {len(participants)} teams.")
    return sentences


def _how_far(difference: float) -> str:
    """Say by how many points something stands above or below, as they are shown."""
    shown = points(abs(difference))
    if shown == points(0.0):
        return "level with"
    return f"{shown} points {'above' if difference > 0 else 'below'}"


def final_drawing(final: FinalView) -> Drawing | None:
    """Draw the ranking; None where there is none."""
    if not final.places:
        return None
    figures = [Figure(place.score.value, place.score.low, place.score.high) for place in final.places]
    public = [Figure(place.public_score, place.public_score, place.public_score) for place in final.places]
    drawn = final.places[:MOST_LINES]
    scale = axis_of([*public[:MOST_LINES], *(Figure(f.value, f.value, f.value) for f in figures[:MOST_LINES])], 100)
    lines = _lines(drawn, scale)
    ticks = tuple((_height(at / 100), text) for at, text in scale.ticks)
    return Drawing(axis_of(figures, 160), lines, ticks, _moves(final.places))


def control_heads(places: Sequence[FinalPlaceView]) -> list[tuple[str, str]]:
    """Return the task and the kind of every control that any place has, in order."""
    controls = chain.from_iterable(place.controls for place in places)
    return sorted({(control.task, control.kind) for control in controls})


def twice_heads(places: Sequence[FinalPlaceView]) -> list[str]:
    """Return the tasks that any place was decoded twice on, in order."""
    return sorted({task for place in places for task in place.agreement})


def _lines(places: Sequence[FinalPlaceView], scale: Axis) -> tuple[Line, ...]:
    lines, last = [], 0.0
    for place in places:  # best first, so from above to below
        left, right = (_height(scale.at(score) / 100) for score in (place.public_score, place.score.value))
        last = max(right, last + LEAST_APART)
        name = place.team.name if len(place.team.name) <= 24 else f"{place.team.name[:23]}…"
        lines.append(Line(name, place.team.kind, left, right, last, signed(-place.gap)))
    return tuple(lines)


def _height(share: float) -> float:
    return round(24 + (SLOPE_HEIGHT - 48) * (1 - share), 1)


def _moves(places: Sequence[FinalPlaceView]) -> dict[int, int]:
    """Return by how many places each team stands higher among the participants than on the public board."""
    final = [place for place in places if place.team.kind == "participant"]
    public = sorted(final, key=lambda place: -place.public_score)
    before = {place.team.id: number for number, place in enumerate(public)}
    return {place.team.id: before[place.team.id] - number for number, place in enumerate(final)}


def _listed(names: Sequence[str]) -> str:
    return " and ".join((", ".join(names[:-1]), names[-1])) if len(names) > 1 else names[0]
