"""The rules: each a small pure function of the competition's rules and the facts of one model or of all.

Nothing is looked up here, so a verdict can be checked again from its evidence, offline.
"""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, time

from cuvee.amounts import bytes_text
from cuvee.submission.competition import Policy, Rules
from cuvee.submission.evidence import Evidence, ModelFacts
from cuvee.submission.verdict import Finding, FindingOutcome

OUTCOMES: dict[Policy, FindingOutcome] = {"allow": "pass", "note": "note", "deny": "fail"}

Rule = Callable[[Rules, ModelFacts], Iterator[Finding]]


OTHER_FORMATS = (".bin", ".pt", ".pth", ".ckpt", ".gguf", ".pkl")
"""Endings of weights in formats that a competition may not allow."""


def check_rules(rules: Rules, evidence: Evidence) -> tuple[Finding, ...]:
    """Return the findings of every rule. A rule that has nothing against a model says `pass` once."""
    findings: list[Finding] = []
    for whole_rule in WHOLE_RULES:
        findings += whole_rule(rules, evidence)
    for model in evidence.models:
        for rule in MODEL_RULES:
            own = list(rule(rules, model))
            findings += own or [Finding(_name(rule), "pass", "", model.reference)]
    return tuple(findings)


def tier(rules: Rules, evidence: Evidence) -> Iterator[Finding]:
    """The competition takes submissions of this tier."""
    if evidence.tier not in rules.tiers:
        yield Finding("tier", "fail", f"the tier '{evidence.tier}' is not taken; {_listed(rules.tiers)} is")


def number_of_models(rules: Rules, evidence: Evidence) -> Iterator[Finding]:
    """A recipe names no more models than allowed."""
    found = len(evidence.models)
    if rules.max_models is not None and found > rules.max_models:
        yield Finding("number_of_models", "fail", f"{found} models; at most {rules.max_models} are allowed")


def method(rules: Rules, evidence: Evidence) -> Iterator[Finding]:
    """The merge methods of all stages are among those allowed, if there is a list."""
    for key in evidence.method.split("+"):
        if rules.methods and key not in rules.methods:
            yield Finding("method", "fail", f"the method '{key}' is not one of {_listed(rules.methods)}")


def tokenizer(rules: Rules, evidence: Evidence) -> Iterator[Finding]:
    """Models with different vocabularies are merged only where it is said which of them the output has."""
    outcome = OUTCOMES[rules.mixed_tokenizers]
    with_tokens = [model for model in evidence.models if model.vocabulary is not None]
    if outcome == "pass" or evidence.chooses_tokenizer:
        return
    for model in with_tokens[1:]:
        if model.vocabulary != with_tokens[0].vocabulary:
            message = f"it has other tokens than {with_tokens[0].reference}, and the recipe has no 'tokenizer'"
            yield Finding("tokenizer", outcome, message, model.reference)


def known(rules: Rules, model: ModelFacts) -> Iterator[Finding]:
    """The model is of the competition, or of a hub where that is allowed."""
    if model.missing is not None:
        yield Finding("known", "fail", model.missing, model.reference)
    elif model.origin == "folder":
        yield Finding("known", "fail", "a folder of yours: it is not one of the competition's models", model.reference)
    elif model.origin == "hub" and not rules.hub:
        yield Finding("known", "fail", "models of a hub are not allowed, only the competition's own", model.reference)


def parameters(rules: Rules, model: ModelFacts) -> Iterator[Finding]:
    """Model and adapter together have no more parameters than allowed, counted from the headers."""
    found = _together(model.parameters, model.adapter.parameters if model.adapter else 0)
    if rules.max_parameters is None:
        return
    if found is None:
        yield Finding("parameters", "fail", "the parameters could not be counted", model.reference)
    elif found > rules.max_parameters:
        message = f"{found:,} parameters; at most {rules.max_parameters:,} are allowed"
        yield Finding("parameters", "fail", message, model.reference)


def size(rules: Rules, model: ModelFacts) -> Iterator[Finding]:
    """The weights of model and adapter together are no larger than allowed."""
    found = _together(model.weight_bytes, model.adapter.weight_bytes if model.adapter else 0)
    if rules.max_bytes is None:
        return
    if found is None:
        yield Finding("size", "fail", "the size is not known", model.reference)
    elif found > rules.max_bytes:
        message = f"{bytes_text(found)} of weights; at most {bytes_text(rules.max_bytes)} are allowed"
        yield Finding("size", "fail", message, model.reference)


def date(rules: Rules, model: ModelFacts) -> Iterator[Finding]:
    """The pinned commits of the model and its adapter, and those of all known ancestors, are old enough.

    The commit counts, for a repository that is old enough may have been filled later.
    """
    if rules.uploaded_before is None:
        return
    limit = datetime.combine(rules.uploaded_before, time(), UTC)
    for each in model.lineage():
        when = each.committed or each.created
        if when is None and _is_leaf(each, model):
            yield Finding("date", "fail", "it is not known when it was uploaded", each.reference)
        elif when is not None and when >= limit:
            message = f"uploaded on {when:%Y-%m-%d}; it must be before {rules.uploaded_before}"
            yield Finding("date", "fail", message, each.reference)


def licence(rules: Rules, model: ModelFacts) -> Iterator[Finding]:
    """The licences of the model, its adapter and all known ancestors are allowed."""
    for each in model.lineage():
        if each.missing is not None:
            continue
        outcome = OUTCOMES[rules.licences.policy(each.licence)]
        if outcome != "pass":
            message = f"the licence is {each.licence}" if each.licence else "no licence is stated"
            yield Finding("licence", outcome, message, each.reference)


def lineage(rules: Rules, model: ModelFacts) -> Iterator[Finding]:
    """A model that is a merge names its parents, and these can be found."""
    outcome = OUTCOMES[rules.undeclared_merges]
    for each in model.lineage():
        if outcome == "pass":
            return
        if each.looks_merged and not each.is_merge:
            message = f"it looks like a merge ({_listed(each.looks_merged)}), and its card does not say so"
            yield Finding("lineage", outcome, message, each.reference)
        elif each.is_merge and not each.parents:
            yield Finding("lineage", outcome, "it is a merge, and its card does not say of what", each.reference)
        for parent in each.parents:
            if each.is_merge and parent.missing is not None:
                message = f"it is a merge of {parent.reference}, of which nothing can be found"
                yield Finding("lineage", outcome, message, each.reference)


def file_format(rules: Rules, model: ModelFacts) -> Iterator[Finding]:
    """There are weights in an allowed format."""
    allowed = tuple(f".{kind}" for kind in rules.formats)
    for facts in _own(model):
        is_allowed = any(name.endswith(allowed) for name in facts.files)
        if is_allowed or facts.missing is not None:
            continue
        message = f"no weights in {_listed(rules.formats)}"
        others = [name for name in facts.files if name.endswith(OTHER_FORMATS)]
        if others:
            message += f"; found {_listed(others[:3])}"
        yield Finding("file_format", "fail", message, facts.reference)


def family(rules: Rules, model: ModelFacts) -> Iterator[Finding]:
    """The config names an allowed family."""
    is_allowed = not rules.families or model.model_type in rules.families
    if model.missing is None and not is_allowed:
        message = f"model_type is {model.model_type}; allowed are {_listed(rules.families)}"
        yield Finding("family", "fail", message, model.reference)


def remote_code(rules: Rules, model: ModelFacts) -> Iterator[Finding]:
    """No file of the model is a program, and no config asks for a program."""
    for each in _own(model):
        if each.remote_code:
            yield Finding("remote_code", "fail", f"it brings code: {_listed(each.remote_code[:3])}", each.reference)


def gated(rules: Rules, model: ModelFacts) -> Iterator[Finding]:
    """Anyone can get the model."""
    for each in _own(model):
        if each.gated and OUTCOMES[rules.gated] != "pass":
            yield Finding("gated", OUTCOMES[rules.gated], "it must be asked for before it can be used", each.reference)


def calibration(rules: Rules, evidence: Evidence) -> Iterator[Finding]:
    """Texts to calibrate by are the competition's, and no code of a participant reads them while judged."""
    if not evidence.texts:
        return
    if evidence.tier != "recipe":
        message = f"the tier '{evidence.tier}' brings code, and the judge tunes recipes alone"
        yield Finding("calibration", "fail", message)
    for text in evidence.texts:
        if not text.is_competitions:
            message = f"'{text.name}' is not the competition's text of this name: lock the recipe again"
            yield Finding("calibration", "fail", message)
    yield Finding("calibration", "pass", f"tuned by {_listed([text.name for text in evidence.texts])}")


WHOLE_RULES: tuple[Callable[[Rules, Evidence], Iterator[Finding]], ...] = (
    tier, number_of_models, method, tokenizer, calibration,
)  # fmt: skip

MODEL_RULES: tuple[Rule, ...] = (
    known, parameters, size, date, licence, lineage, file_format, family, remote_code, gated,
)  # fmt: skip


def _own(model: ModelFacts) -> tuple[ModelFacts, ...]:
    return (model, model.adapter) if model.adapter else (model,)


def _is_leaf(each: ModelFacts, model: ModelFacts) -> bool:
    return each.reference in [own.reference for own in _own(model)]


def _together(first: int | None, second: int | None) -> int | None:
    if first is None or second is None:
        return None
    return first + second


def _listed(names: tuple[str, ...] | list[str]) -> str:
    return ", ".join(names)


def _name(rule: Rule) -> str:
    return str(getattr(rule, "__name__", rule))
