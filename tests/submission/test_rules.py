"""Every rule has an honest and a cheating example; and verdicts can be checked again without asking anybody."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime

import pytest

from cuvee.submission.competition import Licences, Rules
from cuvee.submission.evidence import Evidence, ModelFacts
from cuvee.submission.rules import MODEL_RULES, check_rules
from cuvee.submission.verdict import Finding, Verdict

RULES = Rules(
    tiers=("recipe",),
    max_models=3,
    max_parameters=8_000_000_000,
    max_bytes=17_000_000_000,
    uploaded_before=date(2024, 5, 31),
    licences=Licences(allow=("apache-2.0",), note=("llama3",), deny=("agpl-3.0",)),
    families=("llama",),
    methods=("linear", "slerp"),
)
MAY = datetime(2024, 5, 30, 23, 59, 59, tzinfo=UTC)
JUNE = datetime(2024, 6, 1, tzinfo=UTC)
HONEST = ModelFacts(
    "org/model@" + "1" * 40,
    "hub",
    commit="1" * 40,
    committed=MAY,
    created=MAY,
    licence="apache-2.0",
    model_type="llama",
    parameters=8_000_000_000,
    weight_bytes=16_000_000_000,
    files={"model.safetensors": 16_000_000_000, "config.json": 1, "README.md": 1},
)
PARENT = replace(HONEST, reference="org/parent", committed=None, parameters=None)
ADAPTER = replace(HONEST, reference="org/adapter", parameters=10_000_000, weight_bytes=20_000_000, model_type=None)
SMALLER = replace(HONEST, parameters=7_000_000_000)
DECLARED = replace(HONEST, is_merge=True, parents=(PARENT, replace(PARENT, reference="org/other")))
EVIDENCE = Evidence("recipe", "linear", (HONEST, DECLARED))
OF_TWO_VOCABULARIES = (HONEST, replace(HONEST, vocabulary="a"), replace(HONEST, vocabulary="b"))


def failures(model: ModelFacts, rules: Rules = RULES) -> list[str]:
    found = check_rules(rules, Evidence("recipe", "linear", (model,)))
    return [finding.rule for finding in found if finding.outcome == "fail"]


def with_parent(**changes: object) -> ModelFacts:
    return replace(DECLARED, parents=(PARENT, replace(PARENT, reference="org/other", **changes)))  # type: ignore[arg-type]


def test_an_honest_submission_passes_every_rule() -> None:
    findings = check_rules(RULES, EVIDENCE)
    assert {finding.outcome for finding in findings} == {"pass"}
    assert {finding.rule for finding in findings} == {rule.__name__ for rule in MODEL_RULES}


CHEATS: list[tuple[str, ModelFacts]] = [
    ("known", replace(HONEST, origin="folder")),
    ("known", replace(HONEST, missing="there is no such model or commit on the hub")),
    ("parameters", replace(HONEST, parameters=8_000_000_001)),
    ("parameters", replace(HONEST, parameters=None)),
    ("parameters", replace(HONEST, adapter=ADAPTER)),
    ("size", replace(HONEST, weight_bytes=17_000_000_001)),
    ("size", replace(SMALLER, weight_bytes=16_990_000_000, adapter=ADAPTER)),
    ("size", replace(HONEST, weight_bytes=None)),
    ("date", replace(HONEST, committed=JUNE)),
    ("date", replace(HONEST, committed=datetime(2024, 5, 31, tzinfo=UTC))),
    ("date", replace(HONEST, committed=None, created=None)),
    ("date", replace(SMALLER, adapter=replace(ADAPTER, committed=JUNE))),
    ("date", with_parent(created=JUNE)),
    ("licence", replace(HONEST, licence=None)),
    ("licence", replace(HONEST, licence="agpl-3.0")),
    ("licence", replace(HONEST, licence="mine")),
    ("licence", replace(SMALLER, adapter=replace(ADAPTER, licence="agpl-3.0"))),
    ("licence", with_parent(licence="agpl-3.0")),
    ("licence", with_parent(parents=(replace(PARENT, reference="org/old", licence=None),))),
    ("lineage", replace(HONEST, looks_merged=("mergekit_config.yml",))),
    ("lineage", replace(DECLARED, parents=())),
    ("lineage", with_parent(missing="it cannot be found on the hub")),
    ("lineage", with_parent(looks_merged=("mergekit_config.yml",))),
    ("file_format", replace(HONEST, files={"pytorch_model.bin": 16_000_000_000})),
    ("file_format", replace(SMALLER, adapter=replace(ADAPTER, files={"adapter_model.bin": 1}))),
    ("family", replace(HONEST, model_type="gpt2")),
    ("family", replace(HONEST, model_type=None)),
    ("remote_code", replace(HONEST, remote_code=("modeling_own.py",))),
    ("remote_code", replace(SMALLER, adapter=replace(ADAPTER, remote_code=("adapter_config.json: auto_mapping",)))),
    ("gated", replace(HONEST, gated=True)),
]


@pytest.mark.parametrize(("rule", "model"), CHEATS, ids=[f"{i}-{rule}" for i, (rule, _) in enumerate(CHEATS)])
def test_a_cheat_fails_its_rule_and_no_other(rule: str, model: ModelFacts) -> None:
    assert set(failures(model)) == {rule}


def test_there_is_a_cheat_for_every_rule() -> None:
    assert {rule for rule, _ in CHEATS} == {rule.__name__ for rule in MODEL_RULES}


@pytest.mark.parametrize(
    ("rule", "evidence"),
    [
        ("tier", replace(EVIDENCE, tier="plugin")),
        ("number_of_models", replace(EVIDENCE, models=(HONEST,) * 4)),
        ("method", replace(EVIDENCE, method="ties")),
        ("tokenizer", replace(EVIDENCE, models=OF_TWO_VOCABULARIES)),
    ],
)
def test_a_cheat_of_the_whole_fails_its_rule_and_no_other(rule: str, evidence: Evidence) -> None:
    assert [f.rule for f in check_rules(RULES, evidence) if f.outcome == "fail"] == [rule]


@pytest.mark.parametrize(
    "model",
    [
        replace(SMALLER, adapter=ADAPTER),
        replace(HONEST, committed=MAY, created=MAY),
        replace(HONEST, licence="LLAMA3"),
        with_parent(created=None),
        with_parent(committed=None),
    ],
)
def test_what_is_allowed_passes(model: ModelFacts) -> None:
    assert not failures(model)


def test_a_repository_filled_after_the_date_is_caught_though_it_is_older() -> None:
    assert failures(replace(HONEST, created=MAY, committed=JUNE)) == ["date"]


def test_other_tokens_pass_where_something_says_which_are_kept() -> None:
    mixed = replace(EVIDENCE, models=OF_TWO_VOCABULARIES)
    for rules, evidence in (
        (RULES, replace(mixed, chooses_tokenizer=True)),
        (replace(RULES, mixed_tokenizers="allow"), mixed),
        (replace(RULES, mixed_tokenizers="note"), mixed),
    ):
        assert not [finding for finding in check_rules(rules, evidence) if finding.outcome == "fail"]


def test_a_note_lets_a_model_in_and_says_so() -> None:
    found = check_rules(RULES, Evidence("recipe", "linear", (replace(HONEST, licence="llama3"),)))
    assert [f for f in found if f.outcome != "pass"] == [
        Finding("licence", "note", "the licence is llama3", HONEST.reference)
    ]


RELAXED: list[tuple[Callable[[Rules], Rules], ModelFacts]] = [
    (lambda rules: replace(rules, max_parameters=None), replace(HONEST, parameters=10**12)),
    (lambda rules: replace(rules, max_bytes=None), replace(HONEST, weight_bytes=10**13)),
    (lambda rules: replace(rules, uploaded_before=None), replace(HONEST, committed=JUNE)),
    (lambda rules: replace(rules, families=()), replace(HONEST, model_type="gpt2")),
    (lambda rules: replace(rules, gated="allow"), replace(HONEST, gated=True)),
    (lambda rules: replace(rules, undeclared_merges="allow"), replace(HONEST, looks_merged=("cuvee.json",))),
]


@pytest.mark.parametrize(("relax", "model"), RELAXED)
def test_a_rule_that_a_competition_does_not_have_fails_nobody(
    relax: Callable[[Rules], Rules], model: ModelFacts
) -> None:
    assert failures(model)
    assert not failures(model, relax(RULES))


def test_models_of_a_hub_can_be_shut_out() -> None:
    assert failures(HONEST, replace(RULES, hub=False)) == ["known"]
    assert not failures(replace(HONEST, origin="competition"), replace(RULES, hub=False))


def test_a_verdict_can_be_checked_again_from_what_it_stores() -> None:
    findings = check_rules(RULES, EVIDENCE)
    verdict = Verdict("accepted", "d", "c", "e", MAY, findings=findings, evidence=EVIDENCE)
    stored = Verdict.from_json(verdict.to_json())
    assert stored.evidence is not None
    assert check_rules(RULES, stored.evidence) == findings
    assert [f.rule for f in check_rules(replace(RULES, max_parameters=10), stored.evidence) if f.outcome == "fail"] == [
        "parameters",
        "parameters",
    ]


def test_cards_that_name_each_other_in_a_circle_end() -> None:
    mother = replace(PARENT, reference="org/mother", parents=(replace(PARENT, reference="org/daughter"),))
    daughter = replace(HONEST, reference="org/daughter", parents=(mother,))
    assert [each.reference for each in daughter.lineage()] == ["org/daughter", "org/mother"]
