"""The kinds of task files that people write for lm-eval, small and without a hub, for `test_lm_eval.py`."""

import json
import random
from pathlib import Path
from typing import Any

import yaml

KINDS: dict[str, dict[str, Any]] = {
    "choices_by_text": {
        "output_type": "multiple_choice",
        "doc_to_text": "{{question}}",
        "doc_to_choice": "{{choices}}",
        "doc_to_target": "{{answer}}",
        "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}],
    },
    "yes_or_no": {
        "output_type": "multiple_choice",
        "doc_to_text": "{{question}} Is it {{choices[0]}}?",
        "doc_to_choice": ["no", "yes"],
        "doc_to_target": "{{answer % 2}}",
        "metric_list": [{"metric": "acc"}, {"metric": "f1"}, {"metric": "mcc"}],
    },
    "choices_by_letter": {
        "output_type": "multiple_choice",
        "doc_to_text": "{{question}}\nA. {{choices[0]}}\nB. {{choices[1]}}\nC. {{choices[2]}}\nAnswer:",
        "doc_to_choice": ["A", "B", "C"],
        "doc_to_target": "answer",
    },
    "choices_by_function": {
        "output_type": "multiple_choice",
        "doc_to_text": "!function kinds.text",
        "doc_to_choice": "!function kinds.choices",
        "doc_to_target": "!function kinds.target",
        "process_docs": "!function kinds.shorter",
    },
    "mutual_information": {
        "output_type": "multiple_choice",
        "doc_to_text": "{{question}}",
        "doc_to_choice": "{{choices}}",
        "doc_to_target": "answer",
        "metric_list": [{"metric": "acc"}, {"metric": "acc_mutual_info"}],
    },
    "several_targets": {
        "output_type": "generate_until",
        "doc_to_text": "{{question}}",
        "doc_to_target": "{{choices}}",
        "generation_kwargs": {"until": [" "], "max_gen_toks": 3},
        "metric_list": [{"metric": "exact_match", "ignore_case": True}],
    },
    "filters": {
        "output_type": "generate_until",
        "doc_to_text": "{{question}}",
        "doc_to_target": "{{letter}}",
        "generation_kwargs": {"until": ["\n"], "max_gen_toks": 6},
        "metric_list": [{"metric": "exact_match"}],
        "filter_list": [
            {
                "name": "strict",
                "filter": [{"function": "regex", "regex_pattern": "^never$"}, {"function": "take_first"}],
            },
            {
                "name": "flexible",
                "filter": [
                    {"function": "regex", "regex_pattern": "^never$", "fallback": "b"},
                    {"function": "take_first"},
                ],
            },
        ],
    },
    "few_shot": {
        "output_type": "multiple_choice",
        "num_fewshot": 2,
        "fewshot_split": "train",
        "fewshot_config": {"sampler": "first_n"},
        "fewshot_delimiter": "\n###\n",
        "target_delimiter": " = ",
        "doc_to_text": "{{question}}",
        "doc_to_choice": "{{choices}}",
        "doc_to_target": "answer",
    },
    "description": {
        "output_type": "multiple_choice",
        "description": "Say what the fox did.\n\n",
        "num_fewshot": 1,
        "fewshot_split": "train",
        "doc_to_text": "{{question}}",
        "doc_to_choice": "{{choices}}",
        "doc_to_target": "answer",
    },
    "chat": {
        "output_type": "multiple_choice",
        "num_fewshot": 1,
        "fewshot_split": "train",
        "description": "Be brief.",
        "doc_to_text": "{{question}}",
        "doc_to_choice": "{{choices}}",
        "doc_to_target": "answer",
    },
    "stops": {
        "output_type": "generate_until",
        "doc_to_text": "{{question}}",
        "doc_to_target": "{{choices[answer]}}",
        "generation_kwargs": {"until": ["e", "\n\n"], "max_gen_toks": 12, "do_sample": False},
        "metric_list": [{"metric": "exact_match"}, {"metric": "bleu"}, {"metric": "chrf"}],
    },
    "likelihood": {
        "output_type": "loglikelihood",
        "doc_to_text": "{{question}}",
        "doc_to_target": " {{choices[answer]}}",
        "metric_list": [{"metric": "perplexity"}, {"metric": "acc"}],
    },
    "bits_per_byte": {
        "output_type": "loglikelihood_rolling",
        "doc_to_text": "",
        "doc_to_target": "{{question}} {{choices[0]}}",
        "metric_list": [{"metric": "word_perplexity"}, {"metric": "byte_perplexity"}, {"metric": "bits_per_byte"}],
    },
}
GROUPS: dict[str, dict[str, Any]] = {
    "by_size": {
        "task": ["choices_by_text", "choices_by_function"],
        "aggregate_metric_list": [{"metric": "acc", "weight_by_size": True}],
    },
    "evenly": {
        "task": ["choices_by_text", "choices_by_function"],
        "aggregate_metric_list": [{"metric": "acc", "weight_by_size": False}],
    },
}
CHAT = ("chat",)
"""Those that are asked by the model's chat template."""

FUNCTIONS = """
def text(doc):
    return "Q: " + doc["question"]

def choices(doc):
    return doc["choices"][::-1]

def target(doc):
    return 2 - doc["answer"]

def shorter(docs):
    return docs.select(range(11))
"""
WORDS = ("run", "hide", "é", "sleep a very long while", "no", "say yes", "漢字", "x y z", "b", "a")


def write_kinds(folder: Path) -> None:
    """Write the data, the functions, and a file for each task and group."""
    folder.mkdir()
    for split, count in (("train", 6), ("test", 30)):
        rows = [json.dumps(row(number, split)) for number in range(count)]
        (folder / f"{split}.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    (folder / "kinds.py").write_text(FUNCTIONS, encoding="utf-8")
    data = {"train": str(folder / "train.jsonl"), "test": str(folder / "test.jsonl")}
    common = {"dataset_path": "json", "dataset_kwargs": {"data_files": data}, "test_split": "test"}
    for name, kind in KINDS.items():
        write_yaml(folder / f"{name}.yaml", {"task": name, **common, **kind})
    for name, group in GROUPS.items():
        write_yaml(folder / f"{name}.yaml", {"group": name, **group})


def row(number: int, split: str) -> dict[str, Any]:
    drawn = random.Random(f"{split} {number}")
    choices = drawn.sample(WORDS, 3)
    question = f"Item {number}: what did the fox do{' then' * (number % 5)}?"
    return {"question": question, "choices": choices, "answer": drawn.randrange(3), "letter": drawn.choice("ab")}


def write_yaml(path: Path, content: dict[str, Any]) -> None:
    """Write a file in which `!function` is a tag, as lm-eval reads it, and no text."""
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
    path.write_text(text.replace("'!function ", "!function ").replace("'\n", "\n") if "!function" in text else text)
