"""Models that overlap in part: groups taken from one, and the rule for tensors that only some have."""

import numpy as np
import pytest

import cuvee
from cuvee.errors import CheckpointError, CuveeError, RecipeError

from .conftest import layered

LINEAR = "merge_method: linear\nmodels: [{model: a}, {model: b}]\nparameters: {weight: 1}\n"
VISION = {f"vision_tower.layers.{i}.{fc}.weight": np.zeros((2, 2), np.float32) for i in range(2) for fc in "abc"}
JOIN = {"multi_modal_projector.linear.weight": np.zeros((2, 2), np.float32)}
SEEING = VISION | JOIN | layered()
EXTRA = "model.layers.1.mlp.extra"
MORE = layered() | {EXTRA: np.zeros(3, np.float32)}


def made_of(made):
    return {step.name: ("".join(str(made.models[i.model]) for i in step.inputs), step.action) for step in made.steps}


def problems(plan, text, models):
    with pytest.raises(CuveeError) as caught:
        plan(text, models)
    return [str(problem) for problem in caught.value.problems or (caught.value,)]


@pytest.mark.parametrize("chosen", ["base", "a"])
def test_parts_that_only_the_base_has_are_taken_from_it(plan, chosen):
    made = plan(f"{LINEAR}vision: {chosen}\nprojector: {chosen}\n", {"a": SEEING, "b": layered()})
    assert made_of(made) == {name: (("a", "copy") if name in VISION | JOIN else ("ab", "merge")) for name in SEEING}
    assert made.notes == (
        "'vision' is taken from a; b lacks it (6 tensors)",
        "'projector' is taken from a; b lacks it (1 tensor)",
    )


def test_a_part_that_a_model_lacks_is_an_error_that_names_the_choice(plan):
    assert problems(plan, LINEAR, {"a": SEEING, "b": layered()}) == [
        "b: has nothing of the vision part that a has (6 tensors)\n"
        "  hint: say which model it comes from, for example `vision: base`, or `missing: base` for all such tensors",
        "b: has nothing of the projector part that a has (1 tensors)\n"
        "  hint: say which model it comes from, for example `projector: base`, or `missing: base` for all such tensors",
    ]


def test_a_part_can_come_from_a_model_that_is_not_the_first(plan):
    made = plan(f"{LINEAR}vision: b\nprojector: b\n", {"a": layered(), "b": SEEING})
    assert {name: made_of(made)[name] for name in VISION} == dict.fromkeys(VISION, ("b", "copy"))


def test_a_part_left_out_on_purpose_is_said(plan):
    made = plan(f"{LINEAR}vision: a\nprojector: a\n", {"a": layered(), "b": SEEING})
    assert set(made_of(made)) == set(layered())
    assert made.warnings[0] == "'vision' is taken from a: what only b has of it is left out (6 tensors)"


def test_a_part_is_not_taken_from_a_model_that_lacks_it(plan):
    found = problems(plan, f"{LINEAR}vision: b\n", {"a": SEEING, "b": layered()})
    assert "'vision: b': b has no tensor 'vision_tower.layers.0.a.weight', which a has" in found[0]


def test_embeddings_of_other_sizes_can_be_left_to_the_base(plan):
    wide = layered() | {n: np.zeros((9, 2), np.float32) for n in ("model.embed_tokens.weight", "lm_head.weight")}
    assert "the vocabularies differ" in problems(plan, LINEAR, {"a": layered(), "b": wide})[0]
    made = plan(f"{LINEAR}embeddings: base\n", {"a": layered(), "b": wide})
    taken = {name for name, how in made_of(made).items() if how == ("a", "copy")}
    assert taken == {"model.embed_tokens.weight", "lm_head.weight"}


def test_what_a_tensor_is_for_goes_before_where_it_is(plan):
    made = plan(f"{LINEAR}language: b\nembeddings: a\n", {"a": layered(), "b": layered()})
    assert made_of(made)["lm_head.weight"] == ("a", "copy")
    assert made_of(made)["model.norm.weight"] == ("b", "copy")


def test_a_tensor_that_only_some_have_follows_the_rule(plan):
    for models, owner in (({"a": MORE, "b": layered()}, "a"), ({"a": layered(), "b": MORE}, "b")):
        assert EXTRA in problems(plan, LINEAR, models)[0]
        assert made_of(plan(f"{LINEAR}missing: skip\n", models))[EXTRA] == (owner, "copy")
        kept = made_of(plan(f"{LINEAR}missing: base\n", models)).get(EXTRA)
        assert kept == (("a", "copy") if owner == "a" else None)


def test_each_rule_is_said_with_the_number_of_tensors(plan):
    def said(rule, **models):
        made = plan(f"{LINEAR}missing: {rule}\n", models)
        return made.warnings, made.notes

    assert said("skip", a=MORE, b=layered()) == ((), ("tensors that only a has are taken from it (1 tensor)",))
    assert said("base", a=MORE, b=layered()) == ((), ("tensors that b lacks are taken from a (1 tensor)",))
    assert said("base", a=layered(), b=MORE) == (("tensors that only b has are left out (1 tensor)",), ())


ARITHMETIC = (
    "merge_method: task_arithmetic\nbase_model: base\nmodels: [{model: a}, {model: b}]\nparameters: {weight: 1}\n"
)


@pytest.mark.parametrize("extra", ["mtp.fc.weight", "model.mtp_block.norm.weight", "model.extra.weight", EXTRA])
@pytest.mark.parametrize("method", ["task_arithmetic", "ties", "iso_c", "linear"])
def test_what_only_the_base_has_is_an_error_that_names_the_keys(plan, method, extra):
    text = ARITHMETIC.replace("task_arithmetic", method)
    models = {"base": layered() | {extra: np.zeros(3, np.float32)}, "a": layered(), "b": layered()}
    found = problems(plan, text, models)
    assert [problem.partition("\n")[0] for problem in found] == [
        f"{model}: has no tensor '{extra}', which base has" for model in "ab"
    ]
    assert all("`missing: base`" in problem and "`missing: skip`" in problem for problem in found)
    assert all(("`mtp: drop`" in problem) == ("mtp" in extra) for problem in found)
    for way in ("missing: base", "missing: skip"):
        assert made_of(plan(f"{text}{way}\n", models))[extra] == ("base", "copy")


def test_what_the_base_lacks_is_an_error_that_names_the_keys(plan):
    models = {"base": layered(), "a": MORE, "b": MORE}
    found = problems(plan, ARITHMETIC, models)
    assert all("it would be lost" in problem and "`missing: base`" in problem for problem in found)
    assert EXTRA not in made_of(plan(f"{ARITHMETIC}missing: base\n", models))


THREE = LINEAR.replace("{model: b}", "{model: b}, {model: c}")


def test_several_that_have_a_tensor_are_merged_without_those_that_lack_it(plan):
    made = plan(f"{THREE}missing: skip\n", {"a": MORE, "b": layered(), "c": MORE})
    assert made_of(made)[EXTRA] == ("ac", "merge")
    assert made.notes == ("tensors that b lacks are merged without it (1 tensor)",)


def test_without_the_base_task_vectors_cannot_be_made(plan):
    text = "merge_method: ties\nbase_model: base\nmodels: [{model: a}, {model: b}]\nparameters: {weight: 1}\n"
    models = {"base": layered(), "a": MORE, "b": MORE}
    (found,) = problems(plan, f"{text}missing: skip\n", models)
    assert f"'ties' cannot merge '{EXTRA}' from a, b alone: the base model is not among them" in found
    assert EXTRA not in made_of(plan(f"{text}missing: base\n", models))


@pytest.mark.parametrize("has", ["a", "b"])
def test_a_buffer_that_only_some_have_follows_the_first_model(plan, has):
    buffer = {"model.layers.0.self_attn.rotary_emb.inv_freq": np.zeros(2, np.float32)}
    models = {"a": layered(), "b": layered()}
    made = plan(LINEAR, models | {has: layered() | buffer})
    assert (next(iter(buffer)) in made_of(made)) == (has == "a")
    assert "buffers that" in made.notes[0]


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("vision: c", "'vision': expected 'merge' or a model of the recipe, found 'c'"),
        ("missing: drop", "'missing': input should be 'fail', 'skip' or 'base', found 'drop'"),
        ("visoin: base", "unknown key 'visoin'\n  hint: did you mean 'vision'?"),
    ],
)
def test_a_wrong_choice_is_an_error_of_its_line(line, complaint):
    with pytest.raises(RecipeError) as caught:
        cuvee.recipe_from_text(LINEAR + line)
    assert str(caught.value).startswith(f"recipe:4: {complaint}")


def test_groups_are_of_whole_models():
    text = "merge_method: passthrough\nslices:\n  - sources: [{model: a, layer_range: [0, 1]}]\nembeddings: a\n"
    with pytest.raises(RecipeError, match="'embeddings' is for whole 'models', not for 'slices'"):
        cuvee.recipe_from_text(text)


def test_a_group_changes_the_digest_and_saying_merge_does_not():
    plain = cuvee.recipe_from_text(LINEAR)
    assert cuvee.recipe_from_text(f"{LINEAR}vision: merge\nmissing: fail\n").digest == plain.digest
    assert cuvee.recipe_from_text(f"{LINEAR}vision: base\n").digest != plain.digest
    assert (
        cuvee.recipe_from_text(f"{LINEAR}vision: a\n").digest
        == cuvee.recipe_from_text(f"{LINEAR}vision: base\n").digest
    )


def test_a_tensor_of_no_model_in_common_is_still_an_error(plan):
    with pytest.raises(CheckpointError):
        plan(LINEAR, {"a": {"x.weight": np.zeros(1, np.float32)}, "b": {"y.weight": np.zeros(1, np.float32)}})
