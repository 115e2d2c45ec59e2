"""Every fast way gives what the plain way gives, for models that nobody here foresaw, or is not taken."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from packaging.version import Version

from cuvee.evaluation import Sample, forward
from cuvee.evaluation.abilities import Abilities
from cuvee.evaluation.caches import join_rows, select_rows, trim_columns
from cuvee.evaluation.choices import choose
from cuvee.evaluation.continuous import write
from cuvee.evaluation.likelihoods import Likelihoods
from cuvee.evaluation.model import LanguageModel
from cuvee.evaluation.perplexity import windows
from cuvee.evaluation.prompt import Prompt
from cuvee.evaluation.sampling import Sampler
from cuvee.evaluation.shared import SharedStart
from cuvee.evaluation.tokenise import make_questions

from .families import FAMILIES, OLD, PLACES, make_network
from .plants import Plant, count_positions_by_place, ignore_mask, lose_first_token, swallow_cache
from .ways import PLAIN_PROMPT, QUESTIONS, RECORD, SAMPLES, SHARED_PROMPT, language_model, ways_of


@pytest.fixture(scope="module", params=list(FAMILIES))
def family(request: pytest.FixtureRequest) -> LanguageModel:
    return language_model(make_network(request.param))


@torch.inference_mode()
def brute_force(model: LanguageModel, prefix: list[int], choice: list[int]) -> float:
    """Sum the log-probabilities of a choice in the network's own words: one sequence, nothing kept."""
    if model.network.config.to_dict().get("rope_parameters", {}).get("rope_type") == "dynamic":
        model.network(torch.tensor([prefix[:1]]))  # forgets how long the rows before were
    if model.encoder_decoder:
        row = decoder_row(model, choice[:-1])
        logits = model.network(torch.tensor([prefix]), use_cache=False, **row).logits[0]
    else:
        whole = torch.tensor([[*prefix, *choice[:-1]]])
        logits = model.network(whole, use_cache=False).logits[0, len(prefix) - 1 :]
    return float(logits.double().log_softmax(-1)[range(len(choice)), choice].sum())


def decoder_row(model: LanguageModel, tokens: list[int]) -> dict[str, torch.Tensor]:
    if not model.encoder_decoder:
        return {}
    return {"decoder_input_ids": torch.tensor([[model.start_token, *tokens]])}


def test_choices_are_as_likely_as_by_brute_force(family: LanguageModel) -> None:
    for prompt in (PLAIN_PROMPT, SHARED_PROMPT):
        questions = make_questions(family, SAMPLES, prompt)
        expected = [[brute_force(family, each.prefix, choice) for choice in each.choices] for each in questions]
        for batch_size in (1, 3, 16):
            answers = dict(pair for batch in choose(family, SAMPLES, prompt, batch_size=batch_size) for pair in batch)
            for place, scores in enumerate(expected):
                assert answers[place].scores == pytest.approx(scores, abs=1e-4)


def test_questions_are_read_the_way_that_the_docs_say(family: LanguageModel, request: pytest.FixtureRequest) -> None:
    record = json.loads(RECORD.read_text(encoding="utf-8"))
    if record["transformers"] != transformers.__version__:
        pytest.skip("another release of transformers may allow other ways")
    name = request.node.callspec.params["family"]
    assert ways_of(family) == record["families"][name], "run `PYTHONPATH=tests python -m evaluate.ways`"


def test_the_record_is_of_the_pinned_release() -> None:
    record = json.loads(RECORD.read_text(encoding="utf-8"))
    pins = (Path(__file__).parents[2] / "constraints.txt").read_text(encoding="utf-8").splitlines()
    assert f"transformers=={record['transformers']}" in pins


@torch.inference_mode()
def written_alone(model: LanguageModel, prompt: list[int], ends: list[int], most: int) -> list[int]:
    """Write greedily in the network's own words: one row, shown anew for each token."""
    tokens: list[int] = []
    while len(tokens) < most:
        if model.network.config.to_dict().get("rope_parameters", {}).get("rope_type") == "dynamic":
            model.network(torch.tensor([prompt[:1]]))  # forgets how long the rows before were
        row = [prompt] if model.encoder_decoder else [[*prompt, *tokens]]
        logits = model.network(torch.tensor(row), use_cache=False, **decoder_row(model, tokens)).logits
        token = int(logits[0, -1].argmax())
        if token in ends:
            break
        tokens.append(token)
    return tokens


@pytest.mark.parametrize("lines", [2, 5])
def test_texts_are_those_of_one_row_at_a_time(
    family: LanguageModel, lines: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of five rows that end at different places some leave while others are being written, and others enter."""
    ends = [*range(20, 60)]
    monkeypatch.setattr(family.network.generation_config, "eos_token_id", ends)
    rows = family.encode([text for text, _ in QUESTIONS])
    prompt = Prompt(max_new_tokens=8)
    sampler = Sampler(prompt, [str(place) for place in range(len(rows))])
    written = write(family, rows, prompt, sampler, SharedStart(family, prompt), lines=lines)
    assert written == [written_alone(family, row, ends, 8) for row in rows]


def abilities(network: Any) -> Abilities:
    return language_model(network).abilities


def test_what_a_plain_llama_can() -> None:
    found = abilities(make_network("llama"))
    assert found.way(PLACES).name == "padded"
    assert found.branches(PLACES)
    assert found.shares_start(PLACES)


@pytest.mark.parametrize("family_name", ["olmo hybrid", "falcon h1", "lfm 2", "qwen 3 next", "jamba", "mamba 2"])
def test_layers_that_carry_a_state_share_no_row_with_other_choices(family_name: str) -> None:
    assert not abilities(make_network(family_name)).branches(20)


@pytest.mark.parametrize("family_name", ["mistral, wide window", "gpt-neo", "gemma 2", "llama 4"])
def test_rows_longer_than_a_window_do_not_branch(family_name: str) -> None:
    found = abilities(make_network(family_name))
    assert not found.branches(49)
    assert not found.shares_start(49)


def test_rows_within_a_window_branch() -> None:
    found = abilities(make_network("mistral, wide window"))
    assert found.branches(48)
    assert found.shares_start(48)


def test_rows_that_reach_past_a_window_are_tried_anew() -> None:
    """Here the window does not follow the cache, which nothing shorter than the window can show."""
    network = make_network("mistral, wide window")
    assert abilities(network).way(PLACES).name == "padded"
    for layer in network.model.layers:
        spoil_long_rows(layer.self_attn)
    found = abilities(network)
    assert found.way(48).name == "padded"
    assert found.way(PLACES).name == "alone"


def spoil_long_rows(attention: torch.nn.Module) -> None:
    def shift(module: Any, positional: Any, keywords: dict[str, Any], output: Any) -> Any:
        cache = keywords.get("past_key_values", keywords.get("cache"))
        long = cache is not None and cache.get_seq_length() > 50
        return (output[0] * 1.5, *output[1:]) if long else output

    attention.register_forward_hook(shift, with_kwargs=True)


@pytest.mark.parametrize("plant", [ignore_mask, count_positions_by_place])
def test_a_planted_leak_between_branches_is_noticed(plant: Plant) -> None:
    network = make_network("llama")
    assert abilities(network).branches(20)
    plant(network)
    assert not abilities(network).branches(20)


@pytest.mark.parametrize("plant", [ignore_mask, lose_first_token, swallow_cache])
def test_a_planted_fault_of_the_cache_is_noticed(plant: Plant) -> None:
    network = make_network("llama")
    plant(network)
    assert abilities(network).way(20).name in ("grouped", "alone")


@pytest.mark.parametrize("plant", [ignore_mask, lose_first_token, swallow_cache, count_positions_by_place])
def test_scores_are_right_whatever_is_planted(plant: Plant) -> None:
    network = make_network("llama")
    plant(network)
    model = language_model(network)
    questions = make_questions(model, SAMPLES, SHARED_PROMPT)
    answers = dict(pair for batch in choose(model, SAMPLES, SHARED_PROMPT) for pair in batch)
    for place, question in enumerate(questions):
        expected = [brute_force(model, question.prefix, choice) for choice in question.choices]
        assert answers[place].scores == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_sixteen_bits_are_no_reason_to_go_the_plain_way(dtype: torch.dtype) -> None:
    found = abilities(make_network("llama").to(dtype))
    assert found.way(PLACES).name == "padded"
    assert found.branches(PLACES)


def answer(model: LanguageModel, prompt: Prompt) -> None:
    for _ in choose(model, SAMPLES, prompt):
        pass


def write_on(model: LanguageModel, prompt: Prompt) -> None:
    rows = model.encode([model.render(prompt, sample.input) for sample in SAMPLES])
    sampler = Sampler(prompt, [sample.id for sample in SAMPLES])
    write(model, rows, prompt, sampler, SharedStart(model, prompt), lines=2)


def answer_and_write_on(model: LanguageModel, prompt: Prompt) -> None:
    answer(model, prompt)
    write_on(model, prompt)


@pytest.mark.parametrize(
    ("use", "prompt", "most"),
    [
        (answer, PLAIN_PROMPT, 3),
        (answer, SHARED_PROMPT, 4),
        (write_on, PLAIN_PROMPT, 4),
        (write_on, SHARED_PROMPT, 4),
        (answer_and_write_on, SHARED_PROMPT, 6),
    ],
)
def test_an_ordinary_network_is_tried_in_few_passes(
    use: Callable[[LanguageModel, Prompt], None], prompt: Prompt, most: int
) -> None:
    """Each pass reads all weights: 0.04 s for 135 million parameters."""
    network = make_network("llama")
    shown: list[Any] = []
    network.register_forward_hook(lambda *seen: shown.append(seen))
    model = language_model(network)
    use(model, prompt)
    with_trial = len(shown)
    use(model, prompt)
    assert with_trial - (len(shown) - with_trial) == most


def test_a_network_with_other_numbers_is_tried_by_its_own() -> None:
    model = language_model(make_network("llama"))
    assert model.abilities.branches(20)
    model.network.load_state_dict(make_network("llama", seed=1).state_dict())
    renumbered = model.renumbered("other")
    assert renumbered.abilities.joins(20)
    assert renumbered.abilities.branches_behind_start(20)


def same_cache(cache: Any, rows: torch.Tensor) -> Any:
    """Pick rows of a cache itself, so that the original changes."""
    cache.reorder_cache(rows)
    return cache


def first_rows(cache: Any, rows: torch.Tensor) -> Any:
    return select_rows(cache, torch.arange(len(rows)) % 2)


def trim_none(cache: Any, columns: int) -> Any:
    return cache


def trim_more(cache: Any, columns: int) -> Any:
    return trim_columns(cache, columns + 1)


def shift_on_joining(one: Any, other: Any, columns: int) -> Any:
    return join_rows(other, one, columns)


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("select_rows", same_cache),
        ("select_rows", first_rows),
        ("trim_columns", trim_none),
        ("trim_columns", trim_more),
        ("join_rows", shift_on_joining),
    ],
)
def test_a_planted_fault_of_batches_is_noticed(
    name: str, fault: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forward, name, fault)
    assert not abilities(make_network("llama")).joins(20)


def leak_between_rows(network: Any) -> None:
    """Let each row of a batch hear a little of the others."""

    def mix(module: Any, positional: Any, output: Any) -> Any:
        return output + 0.01 * output.mean(0, keepdim=True)

    network.model.layers[1].mlp.register_forward_hook(mix)


def test_a_leak_between_rows_is_noticed() -> None:
    network = make_network("llama")
    leak_between_rows(network)
    found = abilities(network)
    assert found.way(20).name == "alone"
    assert not found.branches(20)


def see_padding(network: Any) -> None:
    """Let one layer of three see the padding behind a start, and all else as it should."""

    def drop(module: Any, positional: Any, keywords: dict[str, Any]) -> Any:
        mask = keywords.get("attention_mask")
        if mask is None or mask.shape[2] == mask.shape[3] or mask.shape[2] == 1:
            return positional, keywords
        return positional, keywords | {"attention_mask": None}

    network.model.layers[1].self_attn.register_forward_pre_hook(drop, with_kwargs=True)


def test_a_leak_behind_a_start_is_noticed() -> None:
    network = make_network("llama")
    see_padding(network)
    found = abilities(network)
    assert found.branches(20)
    assert not found.branches_behind_start(20)
    assert not found.shares_start(20)


@pytest.mark.parametrize("places", [6, 10, 17])
def test_a_network_of_few_places_is_read_in_the_plain_way(places: int) -> None:
    torch.manual_seed(0)
    config = transformers.GPT2Config(**OLD | {"n_positions": places}, bos_token_id=0, eos_token_id=1)
    model = language_model(transformers.GPT2LMHeadModel(config).eval(), places=places)
    samples = [Sample("1", "ab", "multiple_choice", ("c", "de"))]
    answers = dict(pair for batch in choose(model, samples, PLAIN_PROMPT) for pair in batch)
    (question,) = make_questions(model, samples, PLAIN_PROMPT)
    expected = [brute_force(model, question.prefix, choice) for choice in question.choices]
    assert answers[0].scores == pytest.approx(expected, abs=1e-4)


def gpt_neo() -> Any:
    size = {"vocab_size": 300, "hidden_size": 32, "num_heads": 4, "num_layers": 2, "intermediate_size": 64}
    kinds = [[["global", "local"], 1]]
    config = transformers.GPTNeoConfig(**size, attention_types=kinds, max_position_embeddings=40, window_size=24)
    return transformers.GPTNeoForCausalLM(config)


def bart() -> Any:
    size = {"d_model": 32, "decoder_layers": 2, "decoder_attention_heads": 4, "decoder_ffn_dim": 64}
    config = transformers.BartConfig(vocab_size=300, **size, max_position_embeddings=40)
    return transformers.BartForCausalLM(config)


@pytest.mark.parametrize("make", [gpt_neo, bart])
def test_windows_of_a_text_are_read_together_within_the_places(make: Callable[[], Any]) -> None:
    """The last window is mostly prefix and the first all rest: a batch of both would have twice the places."""
    torch.manual_seed(0)
    model = language_model(make().eval(), places=40)
    questions = windows([3 + place * 7 % 200 for place in range(110)], 0, 40)
    found = Likelihoods(model, PLAIN_PROMPT).of(questions)
    for question, own in zip(questions, found, strict=True):
        assert own == pytest.approx([brute_force(model, question.prefix, question.choices[0])], abs=1e-4)


@pytest.fixture(scope="module", params=[torch.bfloat16, torch.float16])
def deep_network(request: pytest.FixtureRequest) -> Any:
    """A network whose many layers round so much that logits differ by more than the steps that a few layers need."""
    torch.manual_seed(0)
    config = make_network("llama").config
    config.num_hidden_layers = 30
    config.initializer_range = 0.2
    config.layer_types = None
    return transformers.LlamaForCausalLM(config).eval().to(request.param)


ROUNDS_MASKED_ROWS_OTHERWISE = Version(torch.__version__) < Version("2.8")
"""In 16 bits it attends with a mask by other steps than without. The fast way is declined then: slower, not wrong."""


@pytest.mark.skipif(ROUNDS_MASKED_ROWS_OTHERWISE, reason="this torch rounds otherwise where a mask is given")
def test_many_layers_are_no_reason_to_go_the_plain_way(deep_network: Any) -> None:
    found = abilities(deep_network)
    assert found.way(PLACES).name == "padded"
    assert found.branches(PLACES)


# Not lose_first_token: one layer of thirty that forgets one token moves the logits by less than bfloat16 rounds.
@pytest.mark.parametrize("plant", [ignore_mask, swallow_cache, count_positions_by_place])
def test_a_fault_is_noticed_under_the_rounding_of_many_layers(deep_network: Any, plant: Plant) -> None:
    network = copy.deepcopy(deep_network)
    plant(network)
    found = abilities(network)
    assert found.way(20).name != "padded" or not found.branches(20)


def test_a_model_that_sees_few_tokens_is_read_in_the_plain_way() -> None:
    found = language_model(make_network("llama"), places=16).abilities
    assert found.way(10).name == "alone"
    assert not found.branches(10)
