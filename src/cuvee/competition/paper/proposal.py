"""A proposal for a competition, as conferences ask for one, as far as `competition.yaml` and its tasks say it.

The sections follow what reviewers of the NeurIPS 2026 competition track are asked to judge: the task, data and
leakage, the protocol with ties, over-fitting, manipulation and a level field, logistics, and what stays
(https://neurips.cc/Conferences/2026/CompetitionReviewerGuidelines). Each sentence is about what the judge does or the
file says; what only the organiser knows is left as a remark to be written.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from cuvee.amounts import points
from cuvee.competition.pages.prose import rules_in_prose
from cuvee.competition.pages.render import TIE_BREAKS, count, whole
from cuvee.competition.paper.tables import in_markdown
from cuvee.competition.power import Power, powers_of
from cuvee.evaluation import Task
from cuvee.submission.competition import Competition
from cuvee.submission.judging_time import JudgingTime, judging_time
from cuvee.submission.measure import Parts, load_parts
from cuvee.submission.organise import without_licence

TO_WRITE = "To write"
COMMAND = "`cuvee submission verify`"


@dataclass(frozen=True)
class Proposal:
    """A text in Markdown, and how many remarks in it say what is still to be written."""

    text: str
    to_write: int


@dataclass(frozen=True)
class Planned:
    """All that a proposal is written from: the file, its tasks, what the items tell apart, how long judging takes."""

    competition: Competition
    parts: Parts
    powers: Mapping[str, Power]
    time: JudgingTime


def _counts(tasks: Mapping[str, Task]) -> dict[str, int]:
    return {name: len(task.samples) for name, task in tasks.items()}


def plan(competition: Competition, teams: int) -> Planned:
    """Read the tasks and simulate competitions of so many teams. Raises PlatformError for tasks that cannot be read."""
    parts = load_parts(competition, competition.folder)
    by_part = {"public": parts.public, "private": parts.private}
    counts = {part: _counts(tasks) for part, tasks in by_part.items()}
    weights = {task.name: task.weight for task in competition.tasks}
    powers = powers_of(counts, weights, teams=teams)
    return Planned(competition, parts, powers, judging_time(competition, teams))


def proposal_of(planned: Planned) -> Proposal:
    """Write a proposal."""
    of = planned.competition
    sections = {
        "Task and question": _question(of),
        "Data and resources": _data(planned),
        "Leakage and contamination": _leakage(planned),
        "Inputs, outputs and scores": _scores(planned),
        "Baselines": _baselines(of),
        "Ranking and ties": _ranking(planned),
        "Safeguards against over-fitting": _over_fitting(of),
        "Safeguards against manipulation": _manipulation(of),
        "A level field": _level_field(of),
        "Schedule and organisation": _schedule(planned),
        "What stays": _what_stays(of),
    }
    lines = [f"# {in_markdown(of.title)}: a proposal", ""]
    for title, paragraphs in sections.items():
        lines += [f"## {title}", ""]
        for paragraph in paragraphs:
            lines += [paragraph, ""]
    text = "\n".join(lines)
    return Proposal(text, text.count(f"**{TO_WRITE}:**"))


def _to_write(what: str) -> str:
    return f"> **{TO_WRITE}:** {what}"


def _listed(items: list[str]) -> str:
    return "\n".join(f"- {item}" for item in items)


def _question(of: Competition) -> Iterator[str]:
    if of.description.strip():
        yield in_markdown(of.description.strip())
    yield _to_write("the scientific question, whom an answer helps, and what is new beside earlier competitions.")


def _data(planned: Planned) -> Iterator[str]:
    of, parts = planned.competition, planned.parts
    rows = ["| Task | Metric | Public items | Private items | Weight |", "|---|---|--:|--:|--:|"]
    for task in of.tasks:
        public, private = parts.public[task.name], parts.private.get(task.name)
        metric = (task.metrics or public.metrics)[0]
        counts = f"{len(public.samples)} | {_count(private)}"
        rows.append(f"| {in_markdown(task.name)} | {metric} | {counts} | {task.weight:g} |")
    yield "\n".join(rows)
    if of.models:
        rows = ["| Model | Licence | From |", "|---|---|---|"]
        for model in of.models:
            origin = f"`{model.hub}`" if model.hub else "the competition's server"
            rows.append(f"| {in_markdown(model.name)} | {model.licence or '–'} | {origin} |")
        yield "\n".join(rows)
    if of.calibration:
        names = ", ".join(f"{in_markdown(text.name)} ({text.licence or 'no licence'})" for text in of.calibration)
        yield f"Texts that recipes may be tuned by: {names}."
    yield "The server hands out each file with its size, licence and SHA-256, and `cuvee competition get` checks them."
    unlicensed = without_licence(of)
    if unlicensed:
        yield _to_write(f"the licence of {in_markdown(', '.join(unlicensed))}.")
    yield _to_write("where the items come from, who labelled them and how, consent, and the licence of the tasks.")


def _count(private: Task | None) -> str:
    return "–" if private is None else str(len(private.samples))


def _leakage(planned: Planned) -> Iterator[str]:
    of, parts = planned.competition, planned.parts
    private = sum(len(task.samples) for task in parts.private.values())
    if not private:
        yield _to_write("why there are no private items; without them the public board is the final one.")
        return
    measures = [
        f"{private} private items are on machines of the organiser; a server that would hand one out will not start."
    ]
    measures += [f"{_shared(parts)} of them ask what a public item asks (compared as text)."]
    measures += ["Labels are read outside the sandbox: no code of a participant runs where they are."]
    if of.rules.tiers == ("recipe",):
        measures += ["Participants hand in data, not code, so that private questions meet models alone."]
    if of.rules.uploaded_before is not None:
        before = f"uploaded before {of.rules.uploaded_before}, by the date of the pinned commit"
        measures += [f"Models must have been {before}."]
    if not of.rules.hub:
        measures += ["Only the competition's own models may be merged, so that nobody brings one that knows the items."]
    yield _listed(measures)
    yield _to_write("whether the models may have seen the items when they were trained, and how you looked for that.")


def _shared(parts: Parts) -> int:
    shared = 0
    for name, task in parts.private.items():
        shown = {sample.input for sample in parts.public[name].samples}
        shared += sum(sample.input in shown for sample in task.samples)
    return shared


def _scores(planned: Planned) -> Iterator[str]:
    of = planned.competition
    yield " ".join(rules_in_prose(of))
    yield (
        "An entry's score is the weighted mean of the tasks' metrics. Each score has a 95 % interval over the items, "
        "and two entries are compared on the same items in pairs."
    )
    for part, power in planned.powers.items():
        yield (
            f"By simulation, {power.items} {part} items tell a true difference of {points(power.gap)} points apart in "
            f"four of five pairs; of {power.teams} teams whose true scores lie within {points(power.spread)} points, "
            f"about {power.share_first} would share the first place."
        )
    yield _to_write("why these metrics answer the question.")


def _baselines(of: Competition) -> Iterator[str]:
    if not of.ranking.baselines and not of.models:
        yield _to_write("the baselines: name recipes under `ranking.baselines`.")
        return
    recipes = ", ".join(f"`{name}`" for name in of.ranking.baselines)
    if recipes:
        yield f"These recipes are on the board from the start, and can be started from: {recipes}."
    if of.models:
        yield f"So are the {len(of.models)} models that are merged, so that a merge must beat its best parent to show."


def _ranking(planned: Planned) -> Iterator[str]:
    of = planned.competition
    if planned.parts.private:
        yield (
            f"A team chooses up to {of.selections} of its entries; of one that chooses none its best public one "
            "counts. Each is judged again on the private items, and the better one gives the team its place."
        )
    yield (
        "Ranks are ranges: an entry stands above another where the 95 % interval of their paired difference excludes "
        "zero. Teams that the items do not tell apart share a place."
    )
    breaks = ", then ".join(TIE_BREAKS[name] for name in of.ranking.tie_breaks)
    yield f"The order of equal scores on the board is by {breaks}."
    if of.tracks:
        tracks = [f"{track.title}. {track.description}".strip() for track in of.tracks]
        yield "Tracks beside this ranking, each with a board and a final of its own:"
        yield _listed([in_markdown(track) for track in tracks])


def _over_fitting(of: Competition) -> Iterator[str]:
    measures = []
    for phase in of.phases:
        quota = phase.quota
        limits = {"a day": quota.per_day, "in all": quota.total, "at once": quota.at_once}
        often = ", ".join(f"{limit} {words}" for words, limit in limits.items() if limit is not None)
        if phase.scores == "public" and often:
            measures.append(f"In the phase {in_markdown(phase.name)} a team sends at most {often}.")
        if phase.feedback == "ladder":
            better = "only where it beats the team's best by more than the noise"
            measures.append(
                f"In the phase {in_markdown(phase.name)} a new score is shown {better} (Blum & Hardt 2015)."
            )
        if phase.feedback == "none":
            measures.append(f"In the phase {in_markdown(phase.name)} no scores are shown.")
    measures += [
        "The page of a team says how many scored entries it has, and what luck alone gives with so many tries.",
        "The final ranking shows each team's gap between its public and its private score, with its interval, and "
        "raises an alarm where that is above the gap of most beyond the interval.",
    ]
    yield _listed(measures)


def _manipulation(of: Competition) -> Iterator[str]:
    measures = ["Everything is merged and measured again by the organiser's workers; no score of a team counts."]
    if of.rules.tiers != ("recipe",):
        measures.append(
            "Code runs in a sandbox without network, with the kernel's limits on memory, processes and disk; merging "
            "and answering are two jobs, and labels are in neither."
        )
    measures += [
        "Models are pinned by commit and SHA-256, and safetensors and JSON alone are read; no code of a model runs.",
        "Near copies of other teams' entries are shown to the organiser with the chance that two teams come to them on "
        "their own: by recipe, by weights and by wrong answers. A person decides.",
        "Workers judge a known model at their start, every hour and after each failure; runs that a broken one spoiled "
        "are judged again.",
    ]
    if of.public_key is not None:
        measures.append("Each verdict is signed by the worker that made it, and anybody can check it.")
    measures.append("Whatever the organiser does is a line of an audit log, a chain of digests whose head is public.")
    if of.teams.registration == "open":
        measures.append("Anybody may register; only near copies tell of one person with several teams.")
    yield _listed(measures)
    yield _to_write("what follows from cheating, and who decides.")


def _level_field(of: Competition) -> Iterator[str]:
    budget, rules = of.budget, of.rules
    measures = [f"Merging and measuring an entry may take {whole(budget.seconds)}, whoever sent it."]
    if budget.hardware:
        measures.append(f"The judge's machine: {in_markdown(budget.hardware)}.")
    if budget.calibration_seconds is not None:
        measures.append("Seconds are those of a reference machine: on a slower worker an entry may take longer.")
    if rules.max_parameters is not None:
        measures.append(f"A model has at most {count(rules.max_parameters)} parameters.")
    if budget.tuning_tokens is not None:
        tokens = count(budget.tuning_tokens)
        measures.append(f"Calibration and search may be left to the judge, within {tokens} tokens for everybody.")
    if not rules.hub:
        measures.append("A participant needs a browser alone: recipes are written, checked and sent on a page.")
    yield _listed(measures)
    yield _to_write("what you do for groups with few means, and for people who are new to the field.")


def _schedule(planned: Planned) -> Iterator[str]:
    of, time = planned.competition, planned.time
    rows = ["| Phase | Opens (UTC) | Closes (UTC) | Shows |", "|---|---|---|---|"]
    for phase in of.phases:
        opens, closes = f"{phase.opens:%Y-%m-%d %H:%M}", f"{phase.closes:%Y-%m-%d %H:%M}"
        rows.append(f"| {in_markdown(phase.name)} | {opens} | {closes} | {phase.scores} scores |")
    yield "\n".join(rows)
    if time.entries_a_day is None:
        yield f"Judging an entry takes at most {whole(time.seconds)}; how many a team may send is not bounded."
    else:
        yield (
            f"Judging an entry takes at most {whole(time.seconds)}. {time.teams} teams may send {time.entries_a_day} a "
            f"day, which {time.workers} workers keep up with; the final ranking is made of at most {time.final_runs} "
            f"entries, {time.final_seconds / 3600:.1f} hours of one worker."
        )
    yield _to_write("the organisers and what each one does, machines and who pays, time for the analysis afterwards.")
    if of.about.prizes:
        yield f"Prizes: {in_markdown('; '.join(of.about.prizes))}."
    else:
        yield _to_write("prizes, or that there are none.")
    if of.about.contact:
        yield f"Contact: {in_markdown(of.about.contact)}."
    else:
        yield _to_write("whom to ask.")


def _what_stays(of: Competition) -> Iterator[str]:
    yield _listed(
        [
            "All recipes are public after the reveal, each a few lines that anybody can run again; their models are "
            "pinned by SHA-256.",
            f"{COMMAND} builds an entry anew and says whether it comes to the same weights and scores.",
            "`cuvee competition report` writes the final ranking, the tasks and the methods as tables and figures; "
            "`cuvee competition export` writes the whole site as files for any web server.",
            "The competition is one folder and one backup: it can be opened again as a class or a benchmark.",
        ]
    )
    yield _to_write("whether the private items are published, when, under which licence, and who keeps the site.")
    if of.about.citation:
        yield f"Citation: {in_markdown(of.about.citation)}"
