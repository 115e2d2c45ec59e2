"""The model card, README.md, of a merged model: what it is made of and how to make it again."""

import json
from pathlib import Path

from cuvee.plan import Plan
from cuvee.version import __version__

_REPRODUCIBLE = {
    "bits": "the same on every machine",
    "tolerance": "the same on one machine, elsewhere within a tolerance",
}


def model_card(plan: Plan, digest: str, copied: list[str]) -> str:
    """Return the card's text. Parents without a hub name are named by their folder."""
    method = plan.method
    parents = "\n".join(f"- `{model}`" for model in plan.models)
    kept = ", ".join(f"`{name}`" for name in copied) or "nothing"
    paper = f" ({method.paper})" if method.paper else ""
    return f"""{_front(plan)}
# {_title(plan)}

A blend made with Cuvée {__version__} by the method `{method.key}`{paper}:
{method.formula}

## Parents

{parents}

Copied from `{plan.models[plan.donor]}`: {kept}.

## Recipe

```yaml
{plan.recipe.text.strip()}
```

Make it again with `cuvee merge recipe.yaml OUT`, where the paths of the recipe lead to the parents.
Weights digest: `{digest}` ({_REPRODUCIBLE[method.reproducible]}).
"""


def _front(plan: Plan) -> str:
    hub_names = [str(m.path) for m in plan.models if m.looks_like_hub_name and not Path(m.path).exists()]
    lines = ["---", "library_name: transformers", "tags:", "- merge", "- cuvee"]
    if hub_names:
        lines += ["base_model:", *(f"- {json.dumps(name)}" for name in hub_names), "base_model_relation: merge"]
    return "\n".join([*lines, "---"])


def _title(plan: Plan) -> str:
    merged = {i.model for step in plan.steps for i in step.inputs}
    return plan.recipe.name or f"{plan.method.key} of {len(merged)} models"
