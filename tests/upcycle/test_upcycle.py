"""A mixture of equal experts is the dense model; of different ones each is whole; routers point where told."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from cuvee.checkpoint import open_checkpoint  # noqa: E402  # after the skips
from cuvee.cli import main  # noqa: E402
from cuvee.errors import CheckpointError, RecipeError  # noqa: E402
from cuvee.hub import Hub  # noqa: E402
from cuvee.plan.mergekit import differences  # noqa: E402
from cuvee.plan.resolve import FoundModel  # noqa: E402
from cuvee.upcycle import plan_mixture, read_upcycling, upcycle  # noqa: E402
from cuvee.verify import verify  # noqa: E402
from tokenizers_made import byte_level_bpe  # noqa: E402

SIZES: dict[str, Any] = {
    "vocab_size": 340, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "intermediate_size": 48, "max_position_embeddings": 64, "bos_token_id": None, "eos_token_id": None,
}  # fmt: skip
DENSE: dict[str, Callable[[], Any]] = {
    "llama": lambda: transformers.LlamaForCausalLM(transformers.LlamaConfig(**SIZES)),
    "qwen3": lambda: transformers.Qwen3ForCausalLM(transformers.Qwen3Config(**SIZES, head_dim=8)),
    "qwen2": lambda: transformers.Qwen2ForCausalLM(transformers.Qwen2Config(**SIZES)),
}
MIXTURES = {"llama": "MixtralForCausalLM", "qwen3": "Qwen3MoeForCausalLM", "qwen2": "Qwen2MoeForCausalLM"}
TOKENS = torch.arange(24)[None] * 11
SHARED = "shared_experts: [{{source_model: a, residual_scale: {}}}]\n"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def dense(here: Path, family: str, names: str) -> None:
    for i, name in enumerate(names):
        torch.manual_seed(i)
        DENSE[family]().save_pretrained(here / name)
        (here / name / "tokenizer.json").write_text(byte_level_bpe(size=340))
        (here / name / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')


def mixed(here: Path, text: str, out: str = "out") -> Path:
    (here / "r.yaml").write_text(text)
    asked, own = read_upcycling(here / "r.yaml")
    return upcycle(asked, own, {name: FoundModel(name, here / name) for name in asked.models}, here / out).folder


def recipe(experts: str, mode: str = "random", more: str = "") -> str:
    listed = "".join(f"  - {{source_model: {name}, positive_prompts: ['text of {name}']}}\n" for name in experts)
    return f"base_model: a\ngate_mode: {mode}\nexperts:\n{listed}{more}"


def logits(folder: Path) -> Any:
    model, told = transformers.AutoModelForCausalLM.from_pretrained(
        folder, output_loading_info=True, dtype=torch.float32
    )
    assert not any(told.values()), told
    with torch.no_grad():
        return type(model).__name__, model(TOKENS).logits


@pytest.mark.parametrize("family", DENSE)
def test_equal_experts_compute_what_the_dense_model_does(here: Path, family: str) -> None:
    dense(here, family, "a")
    more = SHARED.format(0) if family == "qwen2" else ""
    name, found = logits(mixed(here, recipe("aaa", more=more)))
    assert name == MIXTURES[family]
    assert torch.allclose(found, logits(here / "a")[1], atol=1e-5)


def test_each_expert_is_its_models_feed_forward_part(here: Path) -> None:
    dense(here, "llama", "abc")
    out = mixed(here, recipe("bc", more="experts_per_token: 1\n"))
    with open_checkpoint(out) as made, open_checkpoint(here / "a") as base:
        for i, name in enumerate("bc"):
            with open_checkpoint(here / name) as own:
                for word, part in (("w1", "gate_proj"), ("w2", "down_proj"), ("w3", "up_proj")):
                    theirs = own.read(f"model.layers.1.mlp.{part}.weight")
                    ours = made.read(f"model.layers.1.block_sparse_moe.experts.{i}.{word}.weight")
                    np.testing.assert_array_equal(ours, theirs)
        attention = "model.layers.1.self_attn.q_proj.weight"
        np.testing.assert_array_equal(made.read(attention), base.read(attention))
        assert not [name for name in made.tensors if ".mlp." in name]
    config = json.loads((out / "config.json").read_text())
    assert (config["num_local_experts"], config["num_experts_per_tok"]) == (2, 1)
    assert (out / "tokenizer.json").is_file()
    record = json.loads((out / "cuvee.json").read_text())
    assert [entry["model"] for entry in record["inputs"]] == ["a", "b", "c"]


def routers(out: Path) -> np.ndarray:
    with open_checkpoint(out) as made:
        return np.stack([made.read(f"model.layers.{i}.block_sparse_moe.gate.weight") for i in range(2)])


def test_cheap_routers_are_the_mean_embeddings_of_the_prompts(here: Path) -> None:
    dense(here, "llama", "abc")
    rows = routers(mixed(here, recipe("bc", "cheap_embed")))
    tokenizer = transformers.AutoTokenizer.from_pretrained(here / "a")
    with open_checkpoint(here / "a") as base:
        table = base.read("model.embed_tokens.weight").astype(np.float64)
    for i, name in enumerate("bc"):
        mean = table[tokenizer(f"text of {name}")["input_ids"]].mean(0)
        np.testing.assert_allclose(rows[:, i], np.stack([mean / np.linalg.norm(mean)] * 2), atol=1e-6)


def test_hidden_routers_prefer_their_own_prompt(here: Path) -> None:
    dense(here, "llama", "abc")
    out = mixed(here, recipe("bc", "hidden"))
    rows = routers(out)
    tokenizer = transformers.AutoTokenizer.from_pretrained(here / "a")
    model = transformers.AutoModelForCausalLM.from_pretrained(here / "a", dtype=torch.float32)
    with torch.no_grad():
        for i, name in enumerate("bc"):
            given = tokenizer(f"text of {name}", return_tensors="pt")
            states = model(**given, output_hidden_states=True).hidden_states
            for layer in range(2):
                seen = states[layer][0, -1].numpy()
                assert np.argmax(rows[layer] @ seen) == i
                np.testing.assert_allclose(rows[layer, i], seen / np.linalg.norm(seen), atol=1e-5)


def test_random_routers_follow_from_the_seed(here: Path) -> None:
    dense(here, "llama", "ab")
    one, same, other = (
        routers(mixed(here, recipe("ab", more=f"seed: {seed}\n"), f"out{i}")) for i, seed in enumerate((1, 1, 2))
    )
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)
    assert not np.array_equal(one[0], one[1])


@pytest.mark.parametrize(
    ("text", "kind", "words"),
    [
        (recipe("aa").replace("gate_mode", "gate_mod"), RecipeError, r"r\.yaml:2: unknown key 'gate_mod'"),
        (recipe("aa", "cheap"), RecipeError, r"r\.yaml:2: 'gate_mode': input should be"),
        (recipe("a"), RecipeError, r"'experts': expected 2 entries at least"),
        (recipe("aa", more="experts_per_token: 3\n"), RecipeError, "'experts_per_token' is 3, and there are 2"),
        (recipe("aa", "hidden").replace("'text of a'", ""), RecipeError, "needs 'positive_prompts' for each expert"),
        (recipe("aa", more="architecture: qwen3_moe\n"), RecipeError, "'qwen3_moe' does not fit models of the type"),
        (recipe("aa", more="architecture: deepseek\n"), RecipeError, "hint: leave it out, or write mixtral"),
        (recipe("aa", more=SHARED.format(1)), RecipeError, "'mixtral' has no 'shared_experts'"),
        (
            recipe("aa").replace("positive_prompts: ['text of a']", "noise_scale: -1"),
            RecipeError,
            "noise_scale.*greater",
        ),
        (recipe("aa").replace("positive", "positiv"), RecipeError, "hint: did you mean 'positive_prompts'"),
        ("base_model: a\nexperts: [a, a]\n", RecipeError, "found 'a'\n  hint: write `- source_model: a`"),
        (
            "base_model: a\nexperts: [{source_model: a, weight: 1}, {source_model: a}]\n",
            RecipeError,
            "hint: known keys: ",
        ),
        (recipe("az"), CheckpointError, "'model.layers.0.mlp.down_proj.weight' is of shape"),
    ],
)
def test_what_does_not_fit_is_refused(here: Path, text: str, kind: type[Exception], words: str) -> None:
    dense(here, "llama", "a")
    wider = transformers.LlamaConfig(**{**SIZES, "intermediate_size": 64})
    transformers.LlamaForCausalLM(wider).save_pretrained(here / "z")
    with pytest.raises(kind, match=words):
        mixed(here, text)
    assert not list(here.glob("*out*"))


def test_the_command_writes_a_mixture(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    dense(here, "llama", "ab")
    (here / "r.yaml").write_text(recipe("ab", more="dtype: bfloat16\n"))
    monkeypatch.setattr("sys.argv", ["cuvee", "upcycle", "r.yaml", "out"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    said = capsys.readouterr()
    assert said.out.startswith("weights digest ")
    assert "2 experts, of b: mixtral, routers by random" in said.err
    assert json.loads((here / "out" / "config.json").read_text())["dtype"] == "bfloat16"


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> Any:
    monkeypatch.setattr("sys.argv", ["cuvee", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code


def card(here: Path, name: str, licence: str) -> None:
    (here / name / "README.md").write_text(f"---\nlicense: {licence}\n---\n# {name}\n")


def test_the_card_names_all_experts_their_licences_and_the_command(here: Path) -> None:
    dense(here, "llama", "abc")
    for name, licence in (("a", "apache-2.0"), ("b", "mit"), ("c", "gemma")):
        card(here, name, licence)
    out = mixed(here, recipe("bc", more="experts_per_token: 1\n"))
    text = (out / "README.md").read_text()
    assert "# mixtral of 2 experts\n" in text
    assert "`a` with the feed-forward parts of `b`, `c` as its experts, in this order. For each token 1 of them" in text
    for name, licence in (("a", "apache-2.0"), ("b", "mit"), ("c", "gemma")):
        assert f"- `{name}`, {licence}; fingerprint of sampled contents of `model.safetensors` `" in text
    assert "the models' licences differ: apache-2.0 (a), mit (b), gemma (c)" in text
    assert text.startswith(
        "---\nlibrary_name: transformers\ntags:\n- merge\n- cuvee\n- moe\n- mixtral\nlicense: other\n"
    )
    assert "Make it again with `cuvee upcycle recipe.yaml OUT`, where the paths of the recipe lead to" in text
    assert not (out / "mergekit_config.yml").exists()


@pytest.mark.parametrize("mode", ["random", "cheap_embed", "hidden", "fitted"])
def test_the_command_of_the_card_makes_the_mixture_again(
    here: Path, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    dense(here, "llama", "abc")
    first = json.loads((mixed(here, recipe("bc", mode)) / "cuvee.json").read_text())
    text = (here / "out" / "README.md").read_text()
    command = text.partition("Make it again with `cuvee ")[2].partition("`")[0].split()
    words = [{"recipe.yaml": "out/recipe.yaml", "OUT": "again"}.get(word, word) for word in command]
    assert run(monkeypatch, *words) == 0
    again = json.loads((here / "again" / "cuvee.json").read_text())
    assert first["weights_digest"] == again["weights_digest"]
    assert first["recipe_digest"] == again["recipe_digest"]


def test_models_are_found_beside_the_recipe_too(
    here: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    dense(here, "llama", "ab")
    (here / "r.yaml").write_text(recipe("ab"))
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    assert run(monkeypatch, "upcycle", str(here / "r.yaml"), str(here / "out")) == 0


def test_mixtures_of_other_experts_or_prompts_have_other_digests_of_recipe_and_plan(here: Path) -> None:
    dense(here, "llama", "abc")
    texts = [recipe("bc"), recipe("cb"), recipe("bc", more="seed: 1\n"), recipe("bc").replace("text of b", "b")]
    records = [json.loads((mixed(here, text, f"out{i}") / "cuvee.json").read_text()) for i, text in enumerate(texts)]
    assert len({record["recipe_digest"] for record in records}) == 4
    assert len({record["plan_digest"] for record in records}) == 4


def test_routers_that_a_model_run_here_decides_are_the_same_within_a_tolerance(here: Path) -> None:
    dense(here, "llama", "ab")
    modes = ("random", "hidden")
    outs = [mixed(here, recipe("ab", mode), mode) for mode in modes]
    promised = [json.loads((out / "cuvee.json").read_text())["reproducible"] for out in outs]
    assert promised == ["bits", "tolerance"]


@pytest.mark.parametrize("family", DENSE)
def test_a_mixture_passes_every_check_and_fails_with_a_swapped_expert(here: Path, family: str) -> None:
    dense(here, family, "abc")
    more = SHARED.format(0.5) if family == "qwen2" else ""
    out = mixed(here, recipe("bc", "cheap_embed", more))
    found = {check.name: check for check in verify(out).checks}
    assert [name for name, check in found.items() if check.state != "passed"] == ["layers"], found
    assert found["layers"].found == "its layers are of kinds that no parent has"
    assert found["parents"].found.startswith("3 parents are those of the merge, by sizes, headers and sampled contents")
    torch.manual_seed(9)
    DENSE[family]().save_pretrained(here / "c")
    found = {check.name: check for check in verify(out).checks}
    assert (found["parents"].state, found["parents"].found) == ("failed", "not those of the merge: c/model.safetensors")
    assert "failed" not in {check.state for name, check in found.items() if name not in ("parents", "norms")}


def test_a_recipe_that_names_another_expert_is_found(here: Path) -> None:
    dense(here, "llama", "abcd")
    out = mixed(here, recipe("bc"))
    (out / "recipe.yaml").write_text((out / "recipe.yaml").read_text().replace("source_model: c", "source_model: d"))
    found = {check.name: check for check in verify(out).checks}
    assert found["parents"].state == "failed"


def test_without_an_expert_the_rest_of_a_mixture_is_checked(here: Path) -> None:
    dense(here, "llama", "abc")
    out = mixed(here, recipe("bc"))
    (here / "c").rename(here / "gone")
    skipped = [check.name for check in verify(out).checks if check.state == "skipped"]
    assert skipped == ["parents", "shapes", "layers", "norms"]


def expert(out: Path, part: str, layer: int = 0, which: int = 0) -> np.ndarray:
    with open_checkpoint(out) as made:
        return made.read(f"model.layers.{layer}.block_sparse_moe.experts.{which}.{part}.weight").astype(np.float32)


def test_an_experts_residual_scale_multiplies_what_it_adds_to_the_stream_only(here: Path) -> None:
    dense(here, "llama", "abc")
    out = mixed(here, recipe("bc").replace("model: b,", "model: b, residual_scale: '0.25',"))
    with open_checkpoint(here / "b") as own:
        np.testing.assert_array_equal(expert(out, "w2"), 0.25 * own.read("model.layers.0.mlp.down_proj.weight"))
        np.testing.assert_array_equal(expert(out, "w1"), own.read("model.layers.0.mlp.gate_proj.weight"))


def test_noise_is_normal_of_the_scale_asked_for_and_follows_from_the_seed(here: Path) -> None:
    dense(here, "llama", "abc")
    noisy = recipe("bb", more="seed: SEED\n").replace("source_model: b", "source_model: b, noise_scale: 0.5")
    outs = [mixed(here, noisy.replace("SEED", seed), f"out{i}") for i, seed in enumerate("112")]
    with open_checkpoint(here / "b") as own:
        clean = {w: own.read(f"model.layers.0.mlp.{p}.weight") for w, p in (("w1", "gate_proj"), ("w2", "down_proj"))}
    noise = np.stack([expert(outs[0], "w1", which=i) - clean["w1"] for i in range(2)])
    assert abs(noise.mean()) < 0.02
    assert abs(noise.std() - 0.5) < 0.02
    assert abs(np.corrcoef(noise[0].ravel(), noise[1].ravel())[0, 1]) < 0.1
    assert (expert(outs[0], "w2") != clean["w2"]).all()
    np.testing.assert_array_equal(expert(outs[0], "w1"), expert(outs[1], "w1"))
    assert (expert(outs[0], "w1") != expert(outs[2], "w1")).all()


def test_noise_is_the_same_however_a_tensor_is_read(here: Path) -> None:
    dense(here, "llama", "ab")
    (here / "r.yaml").write_text(recipe("ab").replace("source_model: b", "source_model: b, noise_scale: 1"))
    asked, text = read_upcycling(here / "r.yaml")
    source = plan_mixture(asked, text, folder=here, hub=Hub(offline=True)).sources[0]
    name = "model.layers.0.block_sparse_moe.experts.1.w1.weight"
    whole, parts = np.empty(48 * 32, np.float32), [np.empty(size, np.float32) for size in (7, 1000, 529)]
    source.read_into(name, 0, [whole])
    source.read_into(name, 0, parts[:2])
    source.read_into(name, 4 * 1007, parts[2:])
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_uniform_routers_lie_within_the_bound_of_a_new_linear_map(here: Path) -> None:
    dense(here, "llama", "ab")
    rows = routers(mixed(here, recipe("ab", "uniform_random")))
    bound = 32**-0.5
    assert abs(rows).max() <= bound
    assert abs(rows.std() - bound / 3**0.5) < 0.2 * bound


def test_averaged_hidden_routers_are_the_mean_over_each_prompts_own_tokens(here: Path) -> None:
    dense(here, "llama", "abc")
    text = recipe("bc", "hidden_avg").replace("['text of b']", "['text of b', 'a longer text that has more tokens']")
    rows = routers(mixed(here, text))
    tokenizer = transformers.AutoTokenizer.from_pretrained(here / "a")
    model = transformers.AutoModelForCausalLM.from_pretrained(here / "a", dtype=torch.float32)
    means = []
    with torch.no_grad():
        for prompt in ("text of b", "a longer text that has more tokens"):
            states = model(**tokenizer(prompt, return_tensors="pt"), output_hidden_states=True).hidden_states
            means.append(torch.stack(states[:2])[:, 0].mean(dim=1).numpy())
    expected = np.mean(means, axis=0)
    expected /= np.linalg.norm(expected, axis=-1, keepdims=True)
    np.testing.assert_allclose(rows[:, 0], expected, atol=1e-5)


def test_the_last_hidden_state_has_two_names(here: Path) -> None:
    dense(here, "llama", "ab")
    one, other = (routers(mixed(here, recipe("ab", mode), mode)) for mode in ("hidden", "hidden_last"))
    np.testing.assert_array_equal(one, other)


def test_the_prompts_of_a_shared_expert_are_its_gate(here: Path) -> None:
    dense(here, "qwen2", "abc")
    shared = "shared_experts: [{source_model: a, positive_prompts: [all], residual_scale: 0.1}]\n"
    out = mixed(here, recipe("bc", "cheap_embed", shared))
    tokenizer = transformers.AutoTokenizer.from_pretrained(here / "a")
    with open_checkpoint(here / "a") as base, open_checkpoint(out) as made:
        mean = base.read("model.embed_tokens.weight").astype(np.float64)[tokenizer("all")["input_ids"]].mean(0)
        gate = made.read("model.layers.1.mlp.shared_expert_gate.weight")
        np.testing.assert_allclose(gate, mean[None] / np.linalg.norm(mean), atol=1e-6)
        assert made.read("model.layers.1.mlp.gate.weight").shape == (2, 32)
    assert logits(out)[0] == "Qwen2MoeForCausalLM"


@pytest.mark.parametrize(
    ("family", "words"),
    [
        ("llama", ("Mixtral", "mixtral", "mix")),
        ("qwen3", ("qwen", "qwen3", "Qwen3 MoE", "qwen3_moe")),
        ("qwen2", ("qwen", "Qwen MoE", "qwen2_moe")),
    ],
)
def test_an_architecture_may_be_named_as_mergekit_names_it(here: Path, family: str, words: tuple[str, ...]) -> None:
    dense(here, family, "a")
    more = SHARED.format(0.5) if family == "qwen2" else ""
    for word in words:
        (here / "r.yaml").write_text(recipe("aa", more=f"{more}architecture: {word}\n"))
        asked, text = read_upcycling(here / "r.yaml")
        assert plan_mixture(asked, text, folder=here, hub=Hub(offline=True)).making is not None


def test_empty_keys_are_as_if_they_were_not_there(here: Path) -> None:
    dense(here, "llama", "ab")
    text = recipe("ab")
    plain = mixed(here, text, "plain")
    empty = text.replace("positive_prompts", "noise_scale: , residual_scale: , negative_prompts: , positive_prompts")
    out = mixed(here, f"{empty}shared_experts:\narchitecture:\ndtype:\n", "empty")
    assert (
        json.loads((out / "cuvee.json").read_text())["weights_digest"]
        == (json.loads((plain / "cuvee.json").read_text())["weights_digest"])
    )


def said(here: Path, text: str) -> str:
    (here / "r.yaml").write_text(text)
    asked, own = read_upcycling(here / "r.yaml")
    return " | ".join(differences(plan_mixture(asked, own, folder=here, hub=Hub(offline=True))))


def test_the_plan_says_what_is_unlike_mergekit(here: Path) -> None:
    dense(here, "llama", "abc")
    assert "other random rows" in said(here, recipe("bc"))
    assert "other noise" in said(here, recipe("bc").replace("source_model: b", "source_model: b, noise_scale: 1"))
    two = recipe("bc", "hidden_avg").replace("['text of b']", "['text of b', x]")
    assert "counts the padding" in said(here, two)
    assert "counts the padding" not in said(here, recipe("bc", "hidden_avg"))
    assert "sums all tokens" in said(here, two.replace("hidden_avg", "cheap_embed"))
    negative = recipe("bc", "cheap_embed").replace(
        "positive_prompts", "negative_prompts: [nothing], positive_prompts", 1
    )
    assert "unit length before" in said(here, negative)
    assert "sums all tokens" not in said(here, negative)


def test_the_start_token_is_spoken_of_where_the_tokenizer_does_not_put_it_there_itself(here: Path) -> None:
    dense(here, "llama", "abc")
    start = "mergekit puts the start token"
    assert start not in said(here, recipe("bc", "cheap_embed"))
    settings = json.loads((here / "a" / "tokenizer_config.json").read_text())
    (here / "a" / "tokenizer_config.json").write_text(json.dumps(settings | {"bos_token": "<s>"}))
    assert start in said(here, recipe("bc", "cheap_embed"))
    content = json.loads((here / "a" / "tokenizer.json").read_text())
    pieces = [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    content["post_processor"] = {"type": "TemplateProcessing", "single": pieces, "pair": [], "special_tokens": {}}
    (here / "a" / "tokenizer.json").write_text(json.dumps(content))
    assert start not in said(here, recipe("bc", "cheap_embed"))


def test_the_command_plan_shows_a_mixture_and_strict_refuses_its_slips(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    dense(here, "llama", "ab")
    (here / "r.yaml").write_text(recipe("ab", more="experts_per_token: '2'\n"))
    assert run(monkeypatch, "plan", "r.yaml") == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "mixtral of 2 experts" in shown
    assert "unlike mergekit: other random rows" in shown
    assert "warning: 'experts_per_token' is a number in quotes" in shown
    for words in (("plan", "r.yaml"), ("upcycle", "r.yaml", "out")):
        assert run(monkeypatch, *words, "--strict") == 2
        assert "r.yaml:6: 'experts_per_token' is a number in quotes" in capsys.readouterr().err
    assert not (here / "out").exists()


def test_an_expert_that_computes_otherwise_than_the_base_is_told(here: Path) -> None:
    dense(here, "llama", "ab")
    config = json.loads((here / "b" / "config.json").read_text())
    (here / "b" / "config.json").write_text(json.dumps({**config, "hidden_act": "gelu"}))
    (here / "r.yaml").write_text(recipe("ab"))
    asked, text = read_upcycling(here / "r.yaml")
    warnings = plan_mixture(asked, text, folder=here, hub=Hub(offline=True)).warnings
    assert any(warning.startswith("config.json: hidden_act is silu in a, and gelu in b") for warning in warnings)


def test_fitted_routers_send_each_text_to_its_expert(here: Path) -> None:
    """Texts are of letters of their own; others of the same letters are read by the mixture itself."""
    dense(here, "llama", "abc")
    letters = {"b": "abcdefghijklm", "c": "nopqrstuvwxyz"}
    told = {name: [word(name, own, seed) for seed in range(8)] for name, own in letters.items()}
    lines = [f"  - {{source_model: {name}, positive_prompts: {json.dumps(texts)}}}\n" for name, texts in told.items()]
    out = mixed(here, "base_model: a\ngate_mode: fitted\nexperts:\n" + "".join(lines))
    assert "much alike" not in (out / "cuvee.json").read_text()

    tokenizer = transformers.AutoTokenizer.from_pretrained(here / "a")
    model = transformers.AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32)
    right = []
    for number, (name, own) in enumerate(letters.items()):
        for seed in range(100, 110):
            with torch.no_grad():
                tokens = tokenizer(word(name, own, seed), return_tensors="pt")
                logits = model(**tokens, output_router_logits=True).router_logits
            right += [layer.argmax(-1) == number for layer in logits]
    assert float(torch.cat(right).double().mean()) >= 0.95


def word(name: str, letters: str, seed: int) -> str:
    random = np.random.default_rng([ord(name), seed])
    return "".join(random.choice(list(letters), 24))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (recipe("bc", "fitted").replace("['text of b']", "[x], negative_prompts: [y]"), "takes no 'negative_prompts'"),
        (recipe("bc", "fitted", "shared_experts: [{source_model: a, positive_prompts: [z]}]\n"), "makes no gate"),
        (recipe("bc", "fitted").replace("['text of b']", "[]"), "needs 'positive_prompts'"),
    ],
)
def test_texts_that_fit_no_router_are_refused(here: Path, text: str, problem: str) -> None:
    (here / "r.yaml").write_text(text)
    with pytest.raises(RecipeError, match=problem):
        read_upcycling(here / "r.yaml")
