"""Classifiers, reward models, masked and embedding models, and texts: equal to plain loops in their own libraries."""

import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertForSequenceClassification,
    BertModel,
    BigBirdConfig,
    BigBirdForSequenceClassification,
    EuroBertConfig,
    EuroBertForMaskedLM,
    EuroBertForSequenceClassification,
    EuroBertModel,
    FNetConfig,
    FNetForSequenceClassification,
    FNetModel,
    RobertaConfig,
    RobertaForSequenceClassification,
)

from cuvee.errors import CuveeError, EvaluationError
from cuvee.evaluation import Prompt, Report, Sample, Task, evaluate, load_task
from cuvee.evaluation.classifier import Classifier
from cuvee.evaluation.embedder import Embedder
from cuvee.evaluation.kinds import open_judge
from cuvee.evaluation.masked import Masked
from cuvee.evaluation.model import LanguageModel
from evaluation.conftest import byte_tokenizer, save_model
from evaluation.judges import (
    letters_tokenizer,
    save_bert,
    save_classifier,
    save_embedder,
    save_masked,
    save_reward,
)

LABELS = ("calm", "glad", "sad")
TEXTS = [
    "a bright morning", "rain", "the cat sat on the mat and slept", "no", "it is what it is, they said", "42", "oh",
    "a longer text that goes on and on until it is cut because the model sees no more",
]  # fmt: skip
SECONDS = ["a fine day", "wet", "a dog", "yes", "so it is", "43", "oh", "short"]


def scores(report: Report, out: Path) -> list[list[float]]:
    """Return all scores of each item, as they were kept."""
    (file,) = (out / "samples").iterdir()
    return [json.loads(line)["scores"] for line in sorted(file.read_text().splitlines(), key=_place)]


def _place(line: str) -> int:
    return int(json.loads(line)["id"])


def choices_task(texts: Sequence[str], choices: Sequence[Sequence[str]], *, seconds: Sequence[str] = (), **prompt: Any):
    samples = []
    for place, (text, own) in enumerate(zip(texts, choices, strict=True)):
        second = seconds[place] if seconds else ""
        samples.append(Sample(str(place), text, "multiple_choice", tuple(own), place % len(own), second))
    return Task("t", tuple(samples), ("accuracy", "mrr", "ndcg"), prompt=Prompt(**prompt))


@pytest.mark.parametrize("is_pair", [False, True])
def test_a_classifiers_accuracy_is_that_of_a_plain_loop(tmp_path: Path, is_pair: bool):
    folder = save_classifier(tmp_path / "m", LABELS)
    seconds = SECONDS if is_pair else []
    offered = [("glad", "Calm", "sad") if place % 2 else ("sad", "glad") for place in range(len(TEXTS))]
    report = evaluate(folder, [choices_task(TEXTS, offered, seconds=seconds)], out=tmp_path / "out", batch_size=3)
    network, tokenizer = (
        AutoModelForSequenceClassification.from_pretrained(folder),
        AutoTokenizer.from_pretrained(folder),
    )
    hits = []
    for place, (text, own) in enumerate(zip(TEXTS, offered, strict=True)):
        pair = (seconds[place],) if is_pair else ()
        with torch.no_grad():
            inputs = tokenizer(text, *pair, truncation=True, max_length=64, return_tensors="pt")
            logs = network(**inputs).logits[0].log_softmax(-1)
        expected = [float(logs[LABELS.index(label.lower())]) for label in own]
        hits.append(int(np.argmax(expected)) == place % len(own))
        assert scores(report, tmp_path / "out")[place] == pytest.approx(expected, rel=1e-6, abs=1e-6)
    assert report.task("t").main
    assert report.task("t").main.value == pytest.approx(np.mean(hits))
    assert any("were cut on the right to fit 64 tokens" in note for note in report.notes)


def test_a_long_text_is_cut_to_the_places_that_roberta_has(tmp_path: Path):
    """It counts places from behind the padding token, so that of 40 there are 39."""
    size = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = RobertaConfig(vocab_size=300, max_position_embeddings=40, pad_token_id=0, num_labels=2, **size)
    RobertaForSequenceClassification(config).save_pretrained(tmp_path / "m")
    letters_tokenizer().save_pretrained(tmp_path / "m")
    report = evaluate(tmp_path / "m", [choices_task(TEXTS, [("no", "yes")] * len(TEXTS))])
    assert any("were cut on the right to fit 39 tokens" in note for note in report.notes)


def fnet(kind: Any) -> LanguageModel:
    """Make a network that reads padding as if it were text."""
    torch.manual_seed(0)
    tokenizer = letters_tokenizer()
    size = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "max_position_embeddings": 64}
    config = FNetConfig(vocab_size=len(tokenizer), initializer_range=0.3, pad_token_id=0, **size)
    return LanguageModel("fnet", "d", kind(config).eval(), tokenizer, 64)


def test_texts_are_classified_alone_where_a_network_reads_padding():
    model = fnet(FNetForSequenceClassification)
    task = choices_task(TEXTS[:6], [("no", "yes")] * 6)
    with torch.inference_mode():
        answers = Classifier(model).answers(task.samples, task.prompt, "sum")
        for sample, answer in zip(task.samples, answers, strict=True):
            alone = model.network(**model.tokenizer(sample.input, return_tensors="pt")).logits[0].log_softmax(-1)
            assert answer.scores == pytest.approx(alone.tolist(), abs=1e-5)


def test_texts_are_embedded_alone_where_a_network_reads_padding():
    model = fnet(FNetModel)
    found = Embedder(model, (lambda states, mask: states[:, 0],), {}, "", 64, False, "cosine").embed(TEXTS)
    with torch.inference_mode():
        for text, vector in zip(TEXTS, found, strict=True):
            row = model.tokenizer(text, truncation=True, max_length=64, return_tensors="pt")
            alone = model.network(**row).last_hidden_state[0, 0]
            assert vector == pytest.approx(alone.numpy(), abs=1e-5)


def eurobert(kind: Any) -> LanguageModel:
    """Make a network whose rotary positions depend on the longest row, and on those that it saw before."""
    torch.manual_seed(0)
    tokenizer = letters_tokenizer()
    size = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    rope = {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 4.0}
    config = EuroBertConfig(
        vocab_size=len(tokenizer), num_key_value_heads=2, initializer_range=0.3, max_position_embeddings=24,
        rope_parameters=rope, pad_token_id=0, mask_token_id=tokenizer.mask_token_id, **size,
    )  # fmt: skip
    return LanguageModel("eurobert", "d", kind(config).eval(), tokenizer, 64)


def afresh(model: LanguageModel, **inputs: torch.Tensor) -> Any:
    """Show a row to a network as if it had seen none."""
    model.network(**{name: values[:, :1] for name, values in inputs.items()})
    return model.network(**inputs)


def test_long_texts_are_judged_alone_where_positions_depend_on_the_longest():
    judged = eurobert(EuroBertForSequenceClassification)
    task = choices_task(TEXTS, [("no", "yes")] * len(TEXTS))
    embedder = Embedder(eurobert(EuroBertModel), (lambda states, mask: states[:, 0],), {}, "", 64, False, "cosine")
    with torch.inference_mode():
        answers = Classifier(judged).answers(task.samples, task.prompt, "sum")
        vectors = embedder.embed(TEXTS)
        for text, answer, vector in zip(TEXTS, answers, vectors, strict=True):
            row = judged.tokenizer(text, truncation=True, max_length=64, return_tensors="pt")
            assert answer.scores == pytest.approx(afresh(judged, **row).logits[0].log_softmax(-1).tolist(), abs=1e-5)
            alone = afresh(embedder.model, **row).last_hidden_state[0, 0]
            assert vector == pytest.approx(alone.numpy(), abs=1e-5)


def test_a_long_text_is_classified_by_blocks_whatever_was_read_before(tmp_path: Path):
    """transformers turns a BigBird to full attention at the first short text, for good."""
    tokenizer = letters_tokenizer()
    torch.manual_seed(0)
    blocks = {"attention_type": "block_sparse", "block_size": 4, "num_random_blocks": 1}
    config = BigBirdConfig(
        vocab_size=len(tokenizer), max_position_embeddings=64, initializer_range=0.5, num_hidden_layers=2,
        hidden_size=32, intermediate_size=64, num_attention_heads=4, pad_token_id=0, num_labels=2, **blocks,
    )  # fmt: skip
    BigBirdForSequenceClassification(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    texts = [
        "short",
        "a text of several blocks, nearly as long as it may be",
        "short",
        "another that is longer than 28 bytes",
    ]
    task = choices_task(texts, [("LABEL_0", "LABEL_1")] * len(texts))
    judge: Any = open_judge(tmp_path, "classifier", "cpu", "float32").judge
    for text, answer in zip(texts, judge.answers(task.samples, task.prompt, "sum"), strict=True):
        afresh = BigBirdForSequenceClassification.from_pretrained(tmp_path).eval()
        with torch.inference_mode():
            alone = afresh(**tokenizer(text, return_tensors="pt")).logits[0].log_softmax(-1)
        assert answer.scores == pytest.approx(alone.tolist(), abs=1e-5)


def test_a_masked_model_forgets_how_long_the_row_before_was():
    samples = [Sample("0", "x" * 60, "text"), Sample("1", "the cat sat on the mat and slept", "text")]
    with torch.inference_mode():
        _, after = Masked(eurobert(EuroBertForMaskedLM)).answers(samples, Prompt(), "sum")
        (fresh,) = Masked(eurobert(EuroBertForMaskedLM)).answers(samples[1:], Prompt(), "sum")
    assert after.scores == pytest.approx(fresh.scores, abs=1e-5)


def test_labels_without_names_are_told_by_their_place_and_others_refused(tmp_path: Path):
    unnamed = save_bert(tmp_path / "unnamed", BertForSequenceClassification, num_labels=2)
    task = choices_task(TEXTS[:2], [("no", "yes")] * 2)
    assert len(evaluate(unnamed, [task]).task("t").items) == 2
    named = save_classifier(tmp_path / "named", LABELS)
    with pytest.raises(EvaluationError, match="the choice 'no' of item '0' is none of the model's labels"):
        evaluate(named, [task])


def test_a_classifier_whose_head_is_missing_is_refused(tmp_path: Path):
    folder = save_bert(tmp_path / "m", BertModel)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"architectures": ["BertForSequenceClassification"]}))
    with pytest.raises(EvaluationError, match=r"the weights of 'classifier\.bias' are missing"):
        evaluate(folder, [choices_task(TEXTS[:1], [("a", "b")])])


@pytest.mark.parametrize("chat", [False, True])
@pytest.mark.parametrize("pad", [None, 1])
def test_preference_pairs_are_told_apart_as_in_a_plain_loop(tmp_path: Path, chat: bool, pad: int | None):
    folder = save_reward(tmp_path / "m", pad=pad)
    pairs = [(f"{text}!", second) for text, second in zip(TEXTS, SECONDS, strict=True)]
    report = evaluate(folder, [choices_task(TEXTS, pairs, chat_template=chat)], out=tmp_path / "out")
    network, tokenizer = (
        AutoModelForSequenceClassification.from_pretrained(folder),
        AutoTokenizer.from_pretrained(folder),
    )
    for place, (text, own) in enumerate(zip(TEXTS, pairs, strict=True)):
        expected = []
        for answer in own:
            ids = tokenizer(f"{text} {answer}", return_tensors="pt")["input_ids"]
            if chat:
                turns = [{"role": "user", "content": text}, {"role": "assistant", "content": answer}]
                rendered = tokenizer.apply_chat_template(turns, tokenize=False)
                ids = tokenizer(rendered, add_special_tokens=False, return_tensors="pt")["input_ids"]
            with torch.no_grad():
                expected.append(float(network(input_ids=ids).logits[0, 0]))
        assert scores(report, tmp_path / "out")[place] == pytest.approx(expected, rel=1e-6, abs=1e-6)


def test_pseudo_log_likelihoods_are_those_of_masking_each_token_in_turn(tmp_path: Path):
    folder = save_masked(tmp_path / "m")
    offered = [(text[:5], second[:7]) for text, second in zip(TEXTS, SECONDS, strict=True)]
    texts = [text[:30] for text in TEXTS]
    report = evaluate(folder, [choices_task(texts, offered)], out=tmp_path / "out")
    network, tokenizer = AutoModelForMaskedLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    for place, (text, own) in enumerate(zip(texts, offered, strict=True)):
        expected = []
        for choice in own:
            ids = tokenizer(f"{text} {choice}", return_tensors="pt")["input_ids"]
            total, end = 0.0, ids.shape[1] - 1
            for masked in range(end - len(choice) - 1, end):  # a byte is a token here; the space counts with the choice
                shown = ids.clone()
                shown[0, masked] = tokenizer.mask_token_id
                with torch.no_grad():
                    total += float(network(input_ids=shown).logits[0, masked].log_softmax(-1)[ids[0, masked]])
            expected.append(total)
        assert scores(report, tmp_path / "out")[place] == pytest.approx(expected, abs=2e-5)


def test_the_perplexity_of_a_masked_model_is_that_of_masking_each_token_in_turn(tmp_path: Path):
    folder = save_masked(tmp_path / "m")
    text = "some text that takes more tokens than the model sees, so that it is read in two pieces"
    report = evaluate(folder, [Task("t", (Sample("0", text, "text"),), ("perplexity",))])
    network, tokenizer = AutoModelForMaskedLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    nats = 0.0
    for piece in (text[:62], text[62:]):
        ids = tokenizer(piece, return_tensors="pt")["input_ids"]
        for masked in range(1, ids.shape[1] - 1):
            shown = ids.clone()
            shown[0, masked] = tokenizer.mask_token_id
            with torch.no_grad():
                nats -= float(network(input_ids=shown).logits[0, masked].log_softmax(-1)[ids[0, masked]])
    assert report.figures[0].value == pytest.approx(math.exp(nats / len(text)), rel=1e-5)


def embeddings(folder: Path, texts: Sequence[str], pooling: str, dense: bool) -> np.ndarray:
    """Embed texts one by one with transformers, as sentence-transformers defines it."""
    network, tokenizer = AutoModel.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    rows = []
    for text in texts:
        with torch.no_grad():
            states = network(**tokenizer(text, truncation=True, max_length=48, return_tensors="pt")).last_hidden_state[
                0
            ]
        weights = torch.arange(1, len(states) + 1).float()[:, None]
        pooled = {
            "mean": states.mean(0), "cls": states[0], "max": states.max(0).values, "lasttoken": states[-1],
            "mean_sqrt_len_tokens": states.sum(0) / math.sqrt(len(states)),
            "weightedmean": (states * weights).sum(0) / weights.sum(),
        }[pooling]  # fmt: skip
        if dense:
            from safetensors.torch import load_file

            weights = load_file(folder / "2_Dense" / "model.safetensors")
            pooled = torch.tanh(weights["linear.weight"] @ pooled + weights["linear.bias"])
        rows.append(torch.nn.functional.normalize(pooled, dim=0).numpy())
    return np.stack(rows)


@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize("pooling", ["mean", "cls", "max", "lasttoken", "weightedmean", "mean_sqrt_len_tokens"])
def test_embeddings_are_those_of_a_plain_loop(tmp_path: Path, pooling: str, dense: bool):
    folder = save_embedder(tmp_path / "m", pooling=pooling, dense=dense)
    embedder: Any = open_judge(folder, "embedder", "cpu", "float32").judge
    np.testing.assert_allclose(embedder.embed(TEXTS), embeddings(folder, TEXTS, pooling, dense), atol=2e-6)


def test_embeddings_are_those_of_sentence_transformers(tmp_path: Path):
    library = pytest.importorskip("sentence_transformers")
    folder = save_embedder(tmp_path / "m")
    theirs = library.SentenceTransformer(str(folder), device="cpu")
    embedder: Any = open_judge(folder, "embedder", "cpu", "float32").judge
    np.testing.assert_allclose(embedder.embed(TEXTS), theirs.encode(TEXTS), atol=2e-6)
    queries = embedder.embed([f"find: {text}" for text in TEXTS])
    np.testing.assert_allclose(queries, theirs.encode_query(TEXTS), atol=2e-6)
    documents = embedder.embed([f"text: {text}" for text in TEXTS])
    np.testing.assert_allclose(documents, theirs.encode_document(TEXTS), atol=2e-6)


def test_retrieval_ranks_choices_by_their_cosine(tmp_path: Path):
    folder = save_embedder(tmp_path / "m")
    corpus = [*SECONDS, *TEXTS[:4]]
    report = evaluate(folder, [choices_task(TEXTS, [corpus] * len(TEXTS))], out=tmp_path / "out")
    queries = embeddings(folder, [f"find: {text}" for text in TEXTS], "mean", True)
    documents = embeddings(folder, [f"text: {text}" for text in corpus], "mean", True)
    expected = queries @ documents.T
    np.testing.assert_allclose(scores(report, tmp_path / "out"), expected, atol=1e-6)
    ranks = 1 + np.array([(row > row[place]).sum() for place, row in enumerate(expected)])
    found = {score.metric: score.value for score in report.task("t").scores}
    gains = np.where(ranks <= 10, 1 / np.log2(1 + ranks), 0)
    assert found == pytest.approx({"accuracy": (ranks == 1).mean(), "mrr": (1 / ranks).mean(), "ndcg": gains.mean()})


def test_similarity_is_the_correlation_of_cosines_with_the_targets(tmp_path: Path):
    folder = save_embedder(tmp_path / "m")
    targets = [0.1, 3, 2.5, 4, 2.5, 5, 1, 0]
    file = tmp_path / "pairs.jsonl"
    rows = []
    for place, (text, second, target) in enumerate(zip(TEXTS, SECONDS, targets, strict=True)):
        rows.append(
            {"id": str(place), "input": text, "eval_type": "similarity", "second": second, "target": str(target)}
        )
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    report = evaluate(folder, [file])
    first, second = embeddings(folder, TEXTS, "mean", True), embeddings(folder, SECONDS, "mean", True)
    cosines = (first * second).sum(1)
    ranks = [np.argsort(np.argsort(cosines)) + 1.0, np.array([2, 7, 5.5, 8, 5.5, 9, 3, 1]) - (np.array(targets) > 0.5)]
    by_metric = {figure.metric: figure for figure in report.figures}
    assert by_metric["pearson"].value == pytest.approx(np.corrcoef(cosines, targets)[0, 1], abs=1e-6)
    order = np.array(targets)
    own = np.array([(order < each).sum() + ((order == each).sum() + 1) / 2 for each in order])
    assert by_metric["spearman"].value == pytest.approx(np.corrcoef(ranks[0], own)[0, 1], abs=1e-6)
    low, high = by_metric["spearman"].interval
    assert low < by_metric["spearman"].value < high


def test_the_perplexity_of_a_text_is_that_of_a_plain_loop_over_windows(tmp_path: Path):
    folder = save_model(tmp_path / "m", byte_tokenizer(), max_position_embeddings=40)
    file = tmp_path / "book.txt"
    lines = [
        f"{place}: {text}, and then {second}.\n"
        for place in range(30)
        for text, second in zip(TEXTS, SECONDS, strict=True)
    ]
    file.write_text("".join(lines))
    task = load_task(file)
    assert "".join(sample.input for sample in task.samples) == file.read_text()
    assert len(task.samples) > 4
    pieces = (*task.samples[:2], Sample("short", "ten bytes.", "text"))
    task = Task("book", pieces, ("perplexity", "bits_per_byte", "byte_perplexity", "word_perplexity"))
    report = evaluate(folder, [task])
    network, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    nats, tokens = 0.0, 0
    for sample in pieces:
        ids = tokenizer(sample.input, add_special_tokens=False)["input_ids"]
        tokens, done = tokens + len(ids), 0
        while done < len(ids):
            end = min(done + 40, len(ids))
            row = [0, *ids][max(0, end - 40) : end + 1]
            with torch.no_grad():
                logs = network(input_ids=torch.tensor([row[:-1]])).logits[0].log_softmax(-1)
            wanted = row[1:][-(end - done) :]
            nats -= sum(float(logs[len(row) - 1 - len(wanted) + place, token]) for place, token in enumerate(wanted))
            done = end
    text = "".join(sample.input for sample in pieces)
    words = sum(len(re.split(r"\s+", sample.input)) for sample in pieces)
    by_metric = {figure.metric: figure for figure in report.figures}
    assert by_metric["perplexity"].value == pytest.approx(math.exp(nats / tokens), rel=1e-6)
    assert by_metric["bits_per_byte"].value == pytest.approx(nats / len(text.encode()) / math.log(2), rel=1e-6)
    assert by_metric["byte_perplexity"].value == pytest.approx(math.exp(nats / len(text.encode())), rel=1e-6)
    assert by_metric["word_perplexity"].value == pytest.approx(math.exp(nats / words), rel=1e-6)
    low, high = by_metric["perplexity"].interval
    assert low < by_metric["perplexity"].value < high


@pytest.mark.parametrize(
    ("kind", "eval_type", "complaint"),
    [
        ("writer", "similarity", "which an embedding model answers"),
        ("classifier", "generation", "a classifier cannot answer the item '0', which is generation"),
        ("embedder", "text", "an embedding model cannot answer the item '0', which is text"),
        ("masked", "similarity", "a masked model cannot answer the item '0', which is similarity"),
    ],
)
def test_items_of_another_kind_are_refused_by_name(tmp_path: Path, kind: str, eval_type: Any, complaint: str):
    makers = {
        "writer": lambda folder: save_model(folder, byte_tokenizer()),
        "classifier": lambda folder: save_classifier(folder, LABELS),
        "embedder": save_embedder,
        "masked": save_masked,
    }
    folder = makers[kind](tmp_path / "m")
    sample = Sample("0", "a text", eval_type, target=None, second="another" if eval_type == "similarity" else "")
    with pytest.raises(CuveeError, match=complaint):
        evaluate(folder, [Task("t", (sample,), ("exact_match",))])


def test_a_module_that_is_not_known_is_refused(tmp_path: Path):
    folder = save_embedder(tmp_path / "m")
    modules = json.loads((folder / "modules.json").read_text())
    modules[2]["type"] = "sentence_transformers.models.LSTM"
    (folder / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(EvaluationError, match="the module LSTM is not known here"):
        evaluate(folder, [choices_task(TEXTS[:1], [("a", "b")])])


def test_a_second_run_takes_answers_that_are_there(tmp_path: Path):
    folder, out = save_classifier(tmp_path / "m", LABELS), tmp_path / "out"
    task = choices_task(TEXTS, [LABELS] * len(TEXTS))
    first = evaluate(folder, [task], out=out)
    before = (out / "samples" / "t.jsonl").read_bytes()
    assert evaluate(folder, [task], out=out).tasks == first.tasks
    assert (out / "samples" / "t.jsonl").read_bytes() == before
    assert letters_tokenizer().pad_token_id == 0
