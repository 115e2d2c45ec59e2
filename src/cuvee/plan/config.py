"""What the output's config.json says otherwise than the donor's: type, layers, vocabulary, ties."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from cuvee.checkpoint.dtypes import WORDS
from cuvee.checkpoint.naming import EXPLICIT, is_of_diffusers
from cuvee.plan.draft import Draft
from cuvee.plan.plan import MergeStep


def config_changes(
    steps: list[MergeStep], layer_changes: Mapping[str, Any], head_changes: Mapping[str, Any], draft: Draft
) -> dict[str, Any]:
    """Return the keys of the donor's config.json that change, with their new values."""
    config = draft.sources[draft.donor].config
    if not config:
        draft.warnings.append(f"{draft.donor} has no config.json; the output will have none")
        return {}
    written = Counter(step.dtype for step in steps if step.action == "merge")
    changes: dict[str, Any] = {}
    if written:
        word = WORDS[written.most_common(1)[0][0]]
        changes = {key: word for key in ("dtype", "torch_dtype") if key in config}
        if not changes and not is_of_diffusers(config):  # diffusers makes no model of a config with keys it lacks
            changes = {"dtype": word}
    if config.get(EXPLICIT) is not None:
        changes[EXPLICIT] = None  # the output's files have the names that transformers looks for by itself
    changes = with_changes(changes, layer_changes, config)
    changes = with_changes(changes, head_changes, config)
    return with_changes(changes, draft.aligned.vocabulary.config_changes, config)


def with_changes(first: Mapping[str, Any], second: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """Put changes of a config together; of a part that both change, each keeps what it changes."""
    result = dict(first)
    for key, value in second.items():
        before, own = result.get(key), config.get(key)
        if isinstance(before, Mapping) and isinstance(value, Mapping) and isinstance(own, Mapping):
            value = {**before, **{k: v for k, v in value.items() if k not in own or own[k] != v}}
        result[key] = value
    return result
