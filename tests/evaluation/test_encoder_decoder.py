"""Encoder-decoder models: scores equal transformers' own loss on each choice alone, texts its greedy search."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from tokenizers import processors
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    BigBirdPegasusConfig,
    BigBirdPegasusForConditionalGeneration,
    T5Config,
    T5ForConditionalGeneration,
)

from cuvee.evaluation import Prompt, Sample, Task, evaluate, load_model
from cuvee.evaluation.choices import Choice, choose
from cuvee.evaluation.generate import generate
from cuvee.evaluation.model import LanguageModel

from .conftest import END, byte_tokenizer

QUESTIONS = [
    ("Which?", ("A", "B", "C", "D")),
    ("What did the fox do then?", ("run", "run away", "run away fast", "r")),
    ("q", ("yes", "no")),
    ("A longer context with\nseveral lines, and é, ü, 漢字.", ("ü", "x", "a much longer answer than the others")),
]
T5 = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4, "decoder_start_token_id": 0}
BART = {
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "max_position_embeddings": 256,
    "decoder_start_token_id": 1,
    "forced_eos_token_id": None,
}


def save(folder: Path, kind: str) -> Path:
    tokenizer = byte_tokenizer(("r u", "ru n"), start=False)
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {END}", special_tokens=[(END, 1)]
    )
    torch.manual_seed(0)
    common = {"vocab_size": len(tokenizer), "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 0}
    if kind == "t5":
        network: torch.nn.Module = T5ForConditionalGeneration(T5Config(**T5, **common))
    else:
        network = BartForConditionalGeneration(BartConfig(**BART, **common))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", params=["t5", "bart"])
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    return load_model(save(tmp_path_factory.mktemp("models") / request.param, request.param), device="cpu")


def asked() -> list[Sample]:
    return [Sample(str(n), text, "multiple_choice", choices) for n, (text, choices) in enumerate(QUESTIONS)]


def answers(model: LanguageModel, **options: object) -> list[Choice]:
    found = choose(model, asked(), Prompt(), **options)  # type: ignore[arg-type]  # a dict of options
    by_place = dict(pair for batch in found for pair in batch)
    return [by_place[place] for place in range(len(QUESTIONS))]


@torch.inference_mode()
def alone(model: LanguageModel, context: str, choice: str) -> float:
    """Score one choice by transformers' loss: the mean over its tokens, the end token among them."""
    ids = torch.tensor(model.tokenizer([context])["input_ids"])
    labels = torch.tensor(model.tokenizer([choice])["input_ids"])
    return -float(model.network(input_ids=ids, labels=labels).loss) * labels.shape[1]


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("batch_size", [1, 3, 16])
def test_sums_equal_each_choice_alone(both: LanguageModel, batch_size: int, side: str) -> None:
    both.tokenizer.padding_side = side
    for (context, choices), found in zip(QUESTIONS, answers(both, batch_size=batch_size), strict=True):
        expected = [alone(both, context, choice) for choice in choices]
        assert found.log_likelihoods == pytest.approx(expected, abs=1e-4)
        assert found.index == expected.index(max(expected))


def test_kit_scores_are_the_same(both: LanguageModel) -> None:
    kit, plain = answers(both, scoring="kit"), answers(both)
    for one, other in zip(kit, plain, strict=True):
        assert one.scores == pytest.approx(other.scores, abs=1e-5)


def test_long_contexts_keep_their_end(both: LanguageModel) -> None:
    short = LanguageModel("short", "d", both.network, both.tokenizer, 60)
    long = "x" * 100 + "end of the question"
    found = next(choose(short, [Sample("0", long, "multiple_choice", ("yes", "no"))], Prompt()))[0][1]
    assert found.cut == len(long) + 1 - 60
    expected = [alone(both, long[found.cut :], choice) for choice in ("yes", "no")]
    assert found.scores == pytest.approx(expected, abs=1e-4)


def greedy(model: LanguageModel, prompts: Sequence[str]) -> list[str]:
    rows = [torch.tensor(model.tokenizer([prompt])["input_ids"]) for prompt in prompts]
    with torch.inference_mode():
        out = [model.network.generate(row, do_sample=False, num_beams=1, max_new_tokens=10)[0, 1:] for row in rows]
    return [str(model.tokenizer.decode(row, skip_special_tokens=True)) for row in out]


@pytest.mark.parametrize("batch_size", [1, 3])
def test_texts_are_those_of_transformers(both: LanguageModel, batch_size: int) -> None:
    prompts = ["a", "The fox", "What did the fox do then?", "1 + 1 ="]
    samples = [Sample(str(n), text, "generation") for n, text in enumerate(prompts)]
    found = generate(both, samples, Prompt(max_new_tokens=10), batch_size=batch_size)
    by_place = dict(pair for batch in found for pair in batch)
    assert [by_place[place].text for place in range(len(prompts))] == greedy(both, prompts)


def test_a_long_text_is_read_by_blocks_whatever_was_read_before(tmp_path: Path) -> None:
    """transformers turns a BigBird to full attention at the first short text, for good."""
    tokenizer = byte_tokenizer((), start=False)
    sizes = {name: BART[name] for name in BART if name != "forced_eos_token_id"}
    blocks = {"attention_type": "block_sparse", "block_size": 4, "num_random_blocks": 1}
    torch.manual_seed(0)
    config = BigBirdPegasusConfig(
        vocab_size=len(tokenizer), pad_token_id=0, eos_token_id=1, init_std=0.3, **sizes, **blocks
    )
    BigBirdPegasusForConditionalGeneration(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    model = load_model(tmp_path, device="cpu")
    texts = ["short", *("The fox did it once more. " * count for count in (1, 2, 4)), "short", "long " * 30]
    samples = [Sample(str(n), text, "multiple_choice", ("yes", "no")) for n, text in enumerate(texts)]
    expected = []
    for text in texts:
        afresh = BigBirdPegasusForConditionalGeneration.from_pretrained(tmp_path).eval()
        fresh = LanguageModel("fresh", "d", afresh, model.tokenizer, model.context_length)
        expected.append([alone(fresh, text, choice) for choice in ("yes", "no")])
    for batch_size in (1, 6):
        found = dict(pair for batch in choose(model, samples, Prompt(), batch_size=batch_size) for pair in batch)
        for place, scores in enumerate(expected):
            assert found[place].log_likelihoods == pytest.approx(scores, abs=1e-4)


def test_a_mixed_task_is_evaluated(both: LanguageModel, tmp_path: Path) -> None:
    samples = (*asked(), Sample("text", "Say yes", "generation", (), "yes"))
    task = Task("mixed", samples, ("exact_match",), prompt=Prompt(max_new_tokens=4))
    report = evaluate(both, [task], out=tmp_path)
    assert [item.id for item in report.tasks[0].items] == ["0", "1", "2", "3", "text"]
