"""A blend goes to a hub as a folder, an adapter and a GGUF file, with scores in its card, and each of them works."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from cuvee.cli.app import app
from export.conftest import SIZE, TOKENIZERS
from export.llama_cpp import llama_cpp
from hub.server import LocalHub, running

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
peft = pytest.importorskip("peft")

from cuvee.hub import Hub  # noqa: E402  # after the skips
from cuvee.plan.resolve import folder_of  # noqa: E402
from cuvee.progress import Silent  # noqa: E402

RECIPE = """\
merge_method: task_arithmetic
base_model: org/base
models:
  - {model: org/one, parameters: {weight: 0.7}}
  - {model: org/two, parameters: {weight: 0.7}}
"""
PROMPT = "the merged model reads the"
ANSWER_TOKENS = 12


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[LocalHub]:
    """A hub with a base and two experts of it, which every program in this process reaches; we stand in a folder."""
    from huggingface_hub import constants

    monkeypatch.chdir(tmp_path)
    with running(LocalHub()) as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.address)
        template = hub.address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # the server speaks LFS only
        monkeypatch.setenv("HF_TOKEN", "hf_secret")
        put_family(hub, tmp_path / "made")
        yield hub


def put_family(hub: LocalHub, folder: Path) -> None:
    """Put a base on the hub, and two models that differ from it by a matrix of rank 2 in each linear map."""
    sizes = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4}
    config = transformers.LlamaConfig(**sizes, vocab_size=SIZE, num_key_value_heads=2, eos_token_id=0)
    torch.manual_seed(0)
    base = transformers.LlamaForCausalLM(config).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in base.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.1)
    text, settings = TOKENIZERS["bytes"]()
    start = {name: values.clone() for name, values in base.state_dict().items()}
    for number, name in enumerate(("base", "one", "two")):
        weights = {key: values.clone() for key, values in start.items()}
        for key, values in weights.items():
            if number and "proj" in key:
                rows, columns = values.shape
                factors = torch.randn(rows, 2, generator=generator), torch.randn(2, columns, generator=generator)
                values += 0.1 * factors[0] @ factors[1]
        base.load_state_dict(weights)
        base.save_pretrained(folder / name)
        (folder / name / "tokenizer.json").write_text(text, encoding="utf-8")
        more = {"tokenizer_class": "PreTrainedTokenizerFast", **settings}
        (folder / name / "tokenizer_config.json").write_text(json.dumps(more), encoding="utf-8")
        (folder / name / "README.md").write_text("---\nlicense: apache-2.0\n---\n# A model\n")
        hub.put(f"org/{name}", folder / name, commit=f"{number}" * 40)


def cuvee(*words: str) -> str:
    result = CliRunner().invoke(app, list(words))
    assert result.exit_code == 0, result.output
    return result.output


def task_file(folder: Path) -> str:
    rows = [{"id": str(n), "input": f"number {n}", "target": "a", "eval_type": "generation"} for n in range(8)]
    file = folder / "letters.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


def greedy(model: object, tokens: list[int]) -> list[int]:
    prompt = torch.tensor([tokens])
    with torch.no_grad():
        written = model.generate(  # type: ignore[attr-defined]  # transformers says no types of it
            prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=ANSWER_TOKENS, do_sample=False
        )
    return list(written[0, len(tokens) :].tolist())


def test_a_blend_its_adapter_and_its_gguf_work_after_a_journey_over_a_hub(server: LocalHub, tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    cuvee("merge", "recipe.yaml", "blend")
    cuvee("evaluate", "blend", task_file(tmp_path), "--card", "--against-parents")
    cuvee("adapters", "extract", "blend", "org/base", "adapter", "--rank", "4")
    cuvee("evaluate", "org/base+adapter", task_file(tmp_path), "--card")
    cuvee("export", "gguf", "blend", "blend/blend.gguf", "--type", "f32", "--ollama")
    cuvee("push", "blend", "me/blend")
    cuvee("push", "adapter", "me/adapter")

    blend = folder_of("me/blend", Hub(), Silent())
    front = yaml.safe_load((blend / "README.md").read_text().split("---\n")[1])
    assert front["license"] == "apache-2.0"
    assert front["base_model"] == ["org/base", "org/one", "org/two"]
    assert front["model-index"][0]["results"][0]["dataset"]["name"] == "letters"
    card = (blend / "README.md").read_text()
    for words in ("## Scores", "## Parents", f"at commit `{'1' * 40}`", "## Recipe", "Against the best parent"):
        assert words in card

    pushed = server.repos["me/blend"].files
    assert "Modelfile" in pushed
    gguf = tmp_path / "arrived.gguf"
    gguf.write_bytes(pushed["blend.gguf"].read(0, pushed["blend.gguf"].size))
    model = transformers.AutoModelForCausalLM.from_pretrained(blend, dtype=torch.float32).eval()
    tokens = transformers.AutoTokenizer.from_pretrained(blend)(PROMPT).input_ids
    with llama_cpp(gguf) as opened:
        assert opened.tokens(PROMPT) == tokens
        assert opened.greedy(tokens, ANSWER_TOKENS) == greedy(model, tokens)

    adapter = tmp_path / "arrived"
    adapter.mkdir()
    for name, content in server.repos["me/adapter"].files.items():
        (adapter / name).write_bytes(content.read(0, content.size))
    assert "model-index" in (adapter / "README.md").read_text()
    base = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "made" / "base", dtype=torch.float32).eval()
    assert greedy(peft.PeftModel.from_pretrained(base, adapter), tokens) == greedy(model, tokens)


def test_scores_go_into_no_card_that_is_not_the_readers(server: LocalHub, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["evaluate", "org/base", task_file(tmp_path), "--card"])
    assert result.exit_code != 0
    assert "--card writes into README.md of a model's folder" in str(result.exception)
    assert server.requests == []
