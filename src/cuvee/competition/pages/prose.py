"""The rules of a competition as sentences that a person reads, made from the file that a judge reads."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime

from cuvee.amounts import bytes_text
from cuvee.competition.console import Announcement
from cuvee.competition.pages.render import TIE_BREAKS, count, whole
from cuvee.submission.competition import Competition


def rules_in_prose(of: Competition) -> list[str]:
    """Return the rules that matter to somebody who thinks of taking part, one a sentence."""
    return [*_what(of), *_models(of), *_budget(of), *_how_often(of), *_how_ranked(of), *_tracks(of), *_who(of)]


@dataclass(frozen=True)
class News:
    """A piece of news: of a day where the file tells it, of a minute where the organiser has announced it."""

    at: date
    text: str


def news_of(of: Competition, told: Sequence[Announcement] = ()) -> list[News]:
    """Return announcements, the news of the file and the changes of its rules, the newest first.

    Of a day, announcements come first.
    """
    changes = [News(each.date, f"Version {each.version} of the rules: {each.what}") for each in of.changelog]
    events = [News(event.date, event.what) for event in of.about.news]
    announced = [News(each.at.astimezone(UTC), each.text) for each in told]
    return sorted([*announced, *reversed(changes), *events], key=_day, reverse=True)


def _day(news: News) -> date:
    return news.at.date() if isinstance(news.at, datetime) else news.at


def _what(of: Competition) -> Iterator[str]:
    tiers = of.rules.tiers
    if tiers == ("recipe",):
        yield "You hand in recipes: data that say which models to merge and how. No code of yours runs."
    elif "program" in tiers:
        yield "You hand in a recipe, a merge method of your own, or a whole program. Code runs in a sandbox, offline."
    else:
        yield "You hand in recipes, with a merge method of your own if you like. Its code runs in a sandbox, offline."
    if of.rules.methods:
        yield f"Methods that may be used: {', '.join(of.rules.methods)}."


def _models(of: Competition) -> Iterator[str]:
    rules = of.rules
    if rules.hub:
        whose = "Models come from a hub at pinned commits" + (", or are the competition's own." if of.models else ".")
    else:
        whose = f"Only the competition's own {len(of.models)} models may be merged."
    yield whose
    limits = []
    if rules.max_models is not None:
        limits.append(f"at most {rules.max_models} models in a recipe")
    if rules.max_parameters is not None:
        limits.append(f"at most {count(rules.max_parameters)} parameters each")
    if rules.uploaded_before is not None:
        limits.append(f"uploaded before {rules.uploaded_before}")
    if rules.families:
        noun = "family" if len(rules.families) == 1 else "families"
        limits.append(f"of the {noun} {', '.join(rules.families)}")
    if limits:
        yield f"Limits: {', '.join(limits)}."


def _budget(of: Competition) -> Iterator[str]:
    budget = of.budget
    tokens = f" and {count(budget.tokens)} tokens" if budget.tokens is not None else ""
    room = f"{bytes_text(budget.memory_bytes)} of memory"
    yield f"Merging and measuring an entry together may take {whole(budget.seconds)}, {room}{tokens}."
    if of.calibration:
        noun = "text" if len(of.calibration) == 1 else "texts"
        most = f", of at most {count(budget.tuning_tokens)} tokens" if budget.tuning_tokens is not None else ""
        yield f"A recipe may be tuned by the competition's {len(of.calibration)} {noun} within this budget{most}."


def _how_often(of: Competition) -> Iterator[str]:
    for phase in of.phases:
        if phase.scores != "public":
            continue
        often = []
        if phase.quota.per_day is not None:
            often.append(f"{phase.quota.per_day} entries a day")
        if phase.quota.total is not None:
            often.append(f"{phase.quota.total} in all")
        if often:
            yield f"A team sends at most {' and '.join(often)} in the phase {phase.name}."


def _how_ranked(of: Competition) -> Iterator[str]:
    private = [task.name for task in of.tasks if task.private]
    chosen = of.selections
    if private:
        noun = "entry" if chosen == 1 else "entries"
        yield "The final ranking is by private items that nobody has seen."
        yield f"Each team chooses up to {chosen} {noun} for it."
    if of.hides_board:
        names = ", ".join(task.name for task in of.tasks if task.leaderboard is not None)
        yield f"The board, too, is by items that nobody has, of {names}; the public ones are to try things on."
    breaks = ", then ".join(TIE_BREAKS[name] for name in of.ranking.tie_breaks)
    yield f"A place is shared where the items do not tell two entries apart; equal scores go by {breaks}."


def _tracks(of: Competition) -> Iterator[str]:
    if of.tracks:
        names = ", ".join(track.title for track in of.tracks)
        noun = "track" if len(of.tracks) == 1 else "tracks"
        yield f"Besides the score there {'is' if len(of.tracks) == 1 else 'are'} {len(of.tracks)} {noun}: {names}."


def _who(of: Competition) -> Iterator[str]:
    joining = "Anyone may join" if of.teams.registration == "open" else "Teams are invited"
    yield f"{joining}; a team has at most {of.teams.max_members} members."
