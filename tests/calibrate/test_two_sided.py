"""Encoder-decoders run block by block as they run whole, and are repaired on both sides."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file

from calibrate.networks import average, nearby, save, write_rows
from cuvee.calibrate.depth_loop import DepthLoop
from cuvee.calibrate.network import BlockNetwork
from cuvee.calibrate.pairs import paired_batches
from cuvee.calibrate.repair import align
from cuvee.calibrate.settings import alignment
from cuvee.calibrate.sites import find_sites
from cuvee.calibrate.text import Document, read_text
from cuvee.calibrate.two_sided import TwoSidedNetwork, open_network
from cuvee.checkpoint import open_checkpoint
from cuvee.errors import CheckpointError, EvaluationError, RecipeError
from cuvee.evaluation.model import LanguageModel
from evaluation.conftest import byte_tokenizer
from evaluation.families import FAMILIES, T5, TWO_SIDED, make_network

MORE = {
    "flan t5": ("t5", T5 | {"tie_word_embeddings": False, "feed_forward_proj": "gated-gelu"}),
    "pegasus x": ("pegasus_x", TWO_SIDED),
}
SIDED = ("t5", "flan t5", "switch transformers", "bart", "pegasus", "bigbird pegasus")
CROSS = {
    "t5": ("layer.1.EncDecAttention.k", "layer.1.EncDecAttention.v"),
    "bart": ("encoder_attn.k_proj", "encoder_attn.v_proj"),
}
FULL = alignment("align", mix=0.0, ridge=0.0)
"""Solves each map for what the merge sees, without an anchor: one expert's maps are then its own."""


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def more_families(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, settings in MORE.items():
        monkeypatch.setitem(FAMILIES, name, settings)


def opened(folder: Path) -> BlockNetwork:
    return open_network(open_checkpoint(folder), folder, folder.name, device=torch.device("cpu"))


def two_sided(folder: Path) -> TwoSidedNetwork:
    network = opened(folder)
    assert isinstance(network, TwoSidedNetwork)
    return network


@pytest.fixture
def people(tmp_path: Path) -> Callable[[str], dict[str, str]]:
    """Write a base, two experts, and their average; return the experts with texts."""

    def make(family: str) -> dict[str, str]:
        base = make_network(family)
        experts = [nearby(base, seed) for seed in (1, 2)]
        save(tmp_path / "merged", average(experts))
        texts = {}
        for number, expert in enumerate(experts):
            folder = save(tmp_path / f"expert-{number}", expert)
            texts[str(folder)] = write_rows(tmp_path / f"text-{number}.jsonl", seed=number)
        return texts

    return make


@pytest.mark.parametrize("family", SIDED)
def test_blocks_that_run_alone_give_the_logits_of_the_whole_network(family: str, tmp_path: Path) -> None:
    whole = make_network(family)
    network = two_sided(save(tmp_path / "model", whole))
    prompts = torch.tensor([[5, 9, 3, 7, 11, 2], [8, 6, 4, 9, 1, 3]])
    answers = torch.tensor([[0, 4, 9, 8], [0, 5, 12, 77]])

    (hidden,) = network.starts([prompts])
    encoded = None
    for number in range(network.depth):
        if number == network.turns_at:
            encoded = network.encoded(hidden)
            (hidden,) = network.answer_starts([answers])
        rows, length = hidden.shape[:2]
        hidden = network.run_block(network.block(number), hidden, network.call(number, rows, length, encoded))
    logits = torch.cat(list(network.logits(hidden.reshape(-1, hidden.shape[-1]))))

    with torch.no_grad():
        expected = whole(input_ids=prompts, decoder_input_ids=answers, use_cache=False).logits
    torch.testing.assert_close(logits.reshape(expected.shape), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", SIDED)
def test_the_check_passes_where_blocks_run_alone(family: str, tmp_path: Path) -> None:
    opened(save(tmp_path / "model", make_network(family))).check_alone([5, 9, 3, 7, 11, 2, 8])


def test_the_check_refuses_blocks_that_hand_on_what_depends_on_the_text(tmp_path: Path) -> None:
    network = opened(save(tmp_path / "model", make_network("pegasus x")))
    with pytest.raises(EvaluationError, match="cannot be run alone: block 0 is off by"):
        network.check_alone([5, 9, 3, 7, 11, 2, 8])


@pytest.mark.parametrize("family", CROSS)
def test_what_the_encoder_gives_is_a_site_of_its_own(family: str, tmp_path: Path) -> None:
    network = two_sided(save(tmp_path / "model", make_network(family)))
    number, width = network.turns_at or 0, network.width
    hidden, encoded = torch.randn(2, 5, width), torch.randn(2, 5, width)
    block, call = network.block(number), network.call(number, 2, 5, encoded)

    sites = find_sites(block, 10, lambda: network.run_block(block, hidden, call), encoded)

    assert [tuple(own.module for own in site.maps) for site in sites if site.encoded] == [CROSS[family]]
    assert len(sites) == 7  # q, k and v; o; in cross-attention q; k and v; o; the two of the feed-forward part


@pytest.mark.parametrize("family", ["t5", "bart"])
def test_one_expert_is_found_again(family: str, people: Callable[[str], dict[str, str]], tmp_path: Path) -> None:
    expert, text = next(iter(people(family).items()))
    aligned = align(str(tmp_path / "merged"), tmp_path / "out", {expert: text}, FULL)

    own, wanted = weights(tmp_path / "out"), weights(Path(expert))
    solved = [name for name, rule in aligned.rules.items() if rule == "aligned" and own[name].dim() == 2]
    assert any("encoder" in name for name in solved)
    assert any("decoder" in name for name in solved)
    for name in solved:
        torch.testing.assert_close(own[name], wanted[name], atol=2e-4, rtol=1e-3)


def weights(folder: Path) -> Mapping[str, Any]:
    return load_file(folder / "model.safetensors")


@pytest.mark.parametrize("family", ["t5", "switch transformers"])
def test_a_repair_brings_the_merge_closer_to_its_experts(
    family: str, people: Callable[[str], dict[str, str]], tmp_path: Path
) -> None:
    experts = people(family)
    aligned = align(str(tmp_path / "merged"), tmp_path / "out", experts, alignment(), compares=True)
    chosen = aligned.divergences[f"{aligned.ridge:g}"]
    assert chosen < aligned.divergences["before"]
    depth = opened(tmp_path / "merged").depth
    assert [block.number for block in aligned.blocks] == list(range(depth))


def test_the_divergence_is_that_of_whole_networks(people: Callable[[str], dict[str, str]], tmp_path: Path) -> None:
    experts = people("t5")
    aligned = align(str(tmp_path / "merged"), tmp_path / "out", experts, alignment(), compares=True)

    apart = []
    for folder, text in experts.items():
        teacher, merged = whole(Path(folder)), whole(tmp_path / "merged")
        documents = read_text(text, reader(Path(folder)), tokens=16384, length=512).documents
        distances = [divergence(teacher, merged, document) for document in documents[9::10]]
        apart.append(torch.cat(distances).mean())
    assert aligned.divergences["before"] == pytest.approx(float(sum(apart)) / len(apart), rel=1e-4)


def whole(folder: Path) -> Any:
    return transformers.AutoModelForSeq2SeqLM.from_pretrained(folder).eval()


def reader(folder: Path) -> LanguageModel:
    return LanguageModel(folder.name, "", whole(folder), byte_tokenizer(), context_length=512)


def divergence(teacher: Any, student: Any, document: Document) -> Any:
    prompt = torch.tensor([document.ids[: document.answer_from]])
    answer = torch.tensor([[0, *document.ids[document.answer_from : -1]]])
    with torch.no_grad():
        given = [network(input_ids=prompt, decoder_input_ids=answer).logits[0] for network in (teacher, student)]
    wanted, own = [torch.log_softmax(logits.double(), -1) for logits in given]
    return (wanted.exp() * (wanted - own)).sum(-1)


def test_a_stopped_repair_goes_on_to_the_same_bytes(
    people: Callable[[str], dict[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experts = people("t5")
    how = alignment(ridge=3e-4)
    straight = align(str(tmp_path / "merged"), tmp_path / "straight", experts, how).result.digest
    turn = DepthLoop._turn

    def stopping(self: DepthLoop) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(DepthLoop, "_turn", stopping)
    with pytest.raises(KeyboardInterrupt):
        align(str(tmp_path / "merged"), tmp_path / "stopped", experts, how)
    monkeypatch.setattr(DepthLoop, "_turn", turn)
    assert align(str(tmp_path / "merged"), tmp_path / "stopped", experts, how).result.digest == straight


def test_the_decoder_reads_a_start_token_and_the_answer_without_its_last_token() -> None:
    documents = [Document((5, 6, 7, 8, 9), 3), Document((1, 2, 3, 4, 5), 3), Document((5, 6, 7), 1)]
    short, long = paired_batches(documents, start_token=99)
    assert short.ids.tolist() == [[5]]
    assert short.answers is not None
    assert short.answers.ids.tolist() == [[99, 6]]
    assert long.ids.tolist() == [[5, 6, 7], [1, 2, 3]]
    assert long.answers is not None
    assert long.answers.ids.tolist() == [[99, 8], [99, 4]]


def test_prompt_and_answer_are_tokenised_and_cut_by_themselves(tmp_path: Path) -> None:
    folder = save(tmp_path / "model", make_network("t5"))
    (tmp_path / "rows.jsonl").write_text('{"input": "abcdefgh", "target": "xyz"}\n')
    (document,) = read_text(str(tmp_path / "rows.jsonl"), reader(folder), length=4).documents
    tokenizer = byte_tokenizer()
    assert list(document.ids[: document.answer_from]) == tokenizer("abcdefgh")["input_ids"][:4]
    assert list(document.ids[document.answer_from :]) == tokenizer("xyz")["input_ids"][:4]


def test_a_document_without_an_answer_is_refused(tmp_path: Path) -> None:
    folder = save(tmp_path / "model", make_network("t5"))
    (tmp_path / "rows.jsonl").write_text('{"input": "a", "target": "b"}\n{"text": "no answer"}\n')
    with pytest.raises(EvaluationError, match="it has no answer; the model's encoder reads a prompt") as caught:
        read_text(str(tmp_path / "rows.jsonl"), reader(folder))
    assert caught.value.where == f"{tmp_path / 'rows.jsonl'}: document 2"


def test_positions_of_the_answer_alone_are_refused(people: Callable[[str], dict[str, str]], tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="has an encoder, which sees no answer"):
        align(str(tmp_path / "merged"), tmp_path / "out", people("t5"), alignment(positions="answer"))


def test_models_of_other_depths_or_starts_are_refused(tmp_path: Path) -> None:
    merged = str(save(tmp_path / "merged", make_network("t5")))
    text = write_rows(tmp_path / "text.jsonl", seed=0)
    deep = transformers.T5ForConditionalGeneration(
        transformers.T5Config(**T5 | {"num_layers": 1, "num_decoder_layers": 3})
    )
    begins = make_network("t5")
    begins.config.decoder_start_token_id = 5
    for name, network, problem in (("deep", deep, "1 blocks in an encoder"), ("begins", begins, "begins with token 5")):
        folder = str(save(tmp_path / name, network))
        with pytest.raises(CheckpointError, match=problem):
            align(merged, tmp_path / "out", {folder: text}, alignment())
