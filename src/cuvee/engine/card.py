"""The model card, README.md, of a merged model: what it is made of and how to make it again."""

import json
from collections.abc import Sequence
from typing import Any

import yaml

from cuvee.checkpoint.model_card import Facts, card_facts, joint_licence, licence_conflict
from cuvee.plan import Plan
from cuvee.version import __version__

_REPRODUCIBLE = {
    "bits": "the same on every machine",
    "tolerance": "the same on one machine, elsewhere within a tolerance",
}


def model_card(plan: Plan, digest: str, copied: list[str]) -> str:
    """Return the card's text. Parents without a hub name are named by their folder and their headers' hashes."""
    method = plan.method
    facts = [card_facts(source.place) for source in plan.sources]
    parents = "\n".join(_parent(plan, i, facts[i]) for i in range(len(plan.models)))
    kept = ", ".join(f"`{name}`" for name in copied) or "nothing"
    paper = f" ({method.paper})" if method.paper else ""
    conflict = licence_conflict([str(model) for model in plan.models], [fact.licence for fact in facts])
    notes = [note for note in (*plan.notes, *plan.warnings) if note != conflict]
    known = f"\n## Notes\n\n{_listed(notes)}\n" if notes else ""
    return f"""{_front(plan, facts)}
# {_title(plan)}

A blend made with Cuvée {__version__} by the method `{method.key}`{paper}:
{method.formula}

## Parents

{parents}

{_licences(plan, facts)}

Copied from `{plan.models[plan.donor]}`: {kept}.
{known}
## Recipe

```yaml
{plan.recipe.text.strip()}
```

Make it again with `cuvee merge recipe.yaml OUT`{_where(plan)}.
Weights digest: `{digest}` ({_REPRODUCIBLE[method.reproducible]}).
"""


def _parent(plan: Plan, i: int, facts: Facts) -> str:
    model, repository = plan.models[i], plan.repositories[i]
    licence = facts.licence or "no licence stated"
    if repository is not None:
        return f"- [`{model}`]({plan.hub.address}/{repository.name}) at commit `{repository.commit}`, {licence}"
    prints = plan.sources[i].fingerprint()
    first = next(iter(prints), None)
    if first is None:
        return f"- `{model}`, {licence}"
    more = f" and {len(prints) - 1} files more" if len(prints) > 1 else ""
    digest = prints[first]["header_blake3"][:16]
    return f"- `{model}`, {licence}; `{first}`{more}, whose header's BLAKE3 begins with `{digest}`"


def _licences(plan: Plan, facts: Sequence[Facts]) -> str:
    stated = [fact.licence for fact in facts]
    if conflict := licence_conflict([str(model) for model in plan.models], stated):
        return f"**Licence:** {conflict}."
    if None in stated:
        return "**Licence:** not stated by all parents; what holds for them holds for the blend."
    return f"**Licence:** {' and '.join(dict.fromkeys(filter(None, stated)))}, as all parents state."


def _listed(notes: Sequence[str]) -> str:
    return "\n".join(f"- {note}" for note in notes)


def _where(plan: Plan) -> str:
    if None not in plan.repositories:
        return "; the parents are downloaded"
    return ", where the paths of the recipe lead to the parents"


def _front(plan: Plan, facts: Sequence[Facts]) -> str:
    names = list(dict.fromkeys(repository.name for repository in plan.repositories if repository is not None))
    languages = list(dict.fromkeys(language for fact in facts for language in fact.languages))
    licence = joint_licence([fact.licence for fact in facts])
    entries: dict[str, Any] = {"library_name": "transformers", "tags": ["merge", "cuvee", plan.method.key]}
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


def _title(plan: Plan) -> str:
    merged = {i.model for step in plan.steps for i in step.inputs}
    return plan.recipe.name or f"{plan.method.key} of {len(merged)} models"
