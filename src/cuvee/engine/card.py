"""The model card, README.md, of a merged model: its parents and how to make it again."""

import json
from collections.abc import Sequence
from itertools import chain
from typing import Any

import yaml

from cuvee.checkpoint.model_card import Facts, joint_licence, licence_conflict
from cuvee.checkpoint.stored_file import in_a_card
from cuvee.engine.provenance import ParentFiles
from cuvee.plan import Plan
from cuvee.version import __version__

_REPRODUCIBLE = {
    "bits": "the same on every machine",
    "tolerance": "the same on one machine, elsewhere within a tolerance",
}


def model_card(plan: Plan, inputs: Sequence[ParentFiles], digest: str, copied: list[str]) -> str:
    """Return the card's text. `inputs` are the plan's parents, told apart by commit, hashes or samples."""
    stated: dict[str, Facts] = {}
    for entry in inputs:
        stated |= entry.parent.facts
    facts = list(stated.values())
    parents = [_parent(plan, entry) for entry in inputs]
    names = [f"`{name}`" for name in copied]
    conflict = licence_conflict(list(stated), [fact.licence for fact in facts])
    return f"""{_front(plan, facts)}
# {_title(plan)}

{_how(plan)}

## Parents

{_listed(parents)}

{_licences(facts, conflict)}

Copied from `{plan.models[plan.donor]}`: {", ".join(names) or "nothing"}.
{_notes(plan, conflict)}
{_recipe(plan)}Make it again with `{_command(plan)}`{_where(plan, inputs)}.
Weights digest: `{digest}` ({_REPRODUCIBLE[plan.reproducible]}).
"""


def _notes(plan: Plan, conflict: str | None) -> str:
    """List the notes for a reader, each once, but for the conflict of licences, which has a place of its own."""
    notes = dict.fromkeys((*plan.notes, *plan.warnings))
    if conflict is not None:
        notes.pop(conflict, None)
    return f"\n## Notes\n\n{_listed(list(notes))}\n" if notes else ""


def _recipe(plan: Plan) -> str:
    text = plan.recipe.text.strip()
    if not text:
        return "## Again\n\n"
    return f"## Recipe\n\n```yaml\n{text}\n```\n\n"


def _how(plan: Plan) -> str:
    if plan.making is not None:
        return f"{plan.making.how} Made with Cuvée {__version__}."
    method = plan.method
    paper = f" ({method.paper})" if method.paper else ""
    return f"A blend made with Cuvée {__version__} by the method `{method.key}`{paper}:\n{method.formula}"


def _command(plan: Plan) -> str:
    return plan.making.command if plan.making is not None else "cuvee merge recipe.yaml OUT"


def _parent(plan: Plan, entry: ParentFiles) -> str:
    parent, repository = entry.parent, entry.parent.repository
    licences = [fact.licence or "no licence stated" for fact in parent.facts.values()]
    licence = ", its adapter ".join(licences)
    identity = in_a_card(entry.files)
    files = f"; {identity}" if identity else ""
    if repository is not None:
        link = f"[`{parent.name}`]({plan.hub.address}/{repository.name})"
        return f"{link} at commit `{repository.commit}`, {licence}{files}"
    return f"`{parent.name}`, {licence}{files}"


def _licences(facts: Sequence[Facts], conflict: str | None) -> str:
    if conflict is not None:
        return f"**Licence:** {conflict}."
    stated = dict.fromkeys(fact.licence or "" for fact in facts)
    if "" in stated:
        return "**Licence:** not stated by all parents; what holds for them holds for the blend."
    return f"**Licence:** {' and '.join(stated)}, as all parents state."


def _listed(notes: Sequence[str]) -> str:
    return "\n".join(f"- {note}" for note in notes)


def _where(plan: Plan, inputs: Sequence[ParentFiles]) -> str:
    if all(entry.parent.repository is not None for entry in inputs):
        return "; the parents are downloaded"
    paths = "the paths of the recipe" if plan.recipe.text else "its paths"
    return f", where {paths} lead to the parents"


def _front(plan: Plan, facts: Sequence[Facts]) -> str:
    repositories = [parent.repository for parent in plan.parents]
    names = list(dict.fromkeys(repository.name for repository in repositories if repository is not None))
    languages = list(dict.fromkeys(chain.from_iterable(fact.languages for fact in facts)))
    licence = joint_licence([fact.licence for fact in facts])
    entries: dict[str, Any] = {"library_name": "transformers", "tags": _tags(plan)}
    if names:
        entries |= {"base_model": names, "base_model_relation": "merge"}
    if licence is not None:
        entries["license"] = licence
    if licence == "other":
        entries["license_name"] = "those-of-the-parents"
    if languages:
        entries["language"] = languages
    text = yaml.safe_dump(json.loads(json.dumps(entries)), sort_keys=False, allow_unicode=True)
    return f"---\n{text}---"


def _tags(plan: Plan) -> list[str]:
    return ["merge", "cuvee", *(plan.making.tags if plan.making is not None else (plan.method.key,))]


def _title(plan: Plan) -> str:
    if plan.making is not None:
        return plan.making.title
    if plan.recipe.name:
        return plan.recipe.name
    inputs = chain.from_iterable(step.inputs for step in plan.steps)
    merged = {source.model for source in inputs}
    return f"{plan.method.key} of {len(merged)} models"
