"""The family's tokenizer, and questions as the token rows that training and scoring read.

Byte-level BPE: any text round-trips. A digit and a spaced letter are one token each.
"""

import random
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from cuvee.demo.skills import Skill

VOCABULARY = 640
CONTEXT = 256
PAD, BOS, EOS = 0, 1, 2
SPECIAL = ["<pad>", "<s>", "</s>"]
WORDS = Regex(r" ?\p{N}| ?\p{L}+| ?[^\s\p{L}\p{N}]+|\s+")
IGNORED = -100  # the label that torch's cross entropy leaves out


class Row(NamedTuple):
    """The tokens of a prompt with its answer and the end mark, and how many of them are the prompt."""

    tokens: list[int]
    prompt_length: int


def make_tokenizer(skills: Iterable[Skill]) -> PreTrainedTokenizerFast:
    """Train the tokenizer on questions of every skill."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(WORDS, behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(corpus(skills), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", BOS)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=SPECIAL[PAD],
        bos_token=SPECIAL[BOS],
        eos_token=SPECIAL[EOS],
        padding_side="left",
        clean_up_tokenization_spaces=False,
        model_max_length=CONTEXT,
    )


def corpus(skills: Iterable[Skill]) -> Iterable[str]:
    generator = random.Random(0)
    for skill in skills:
        for _ in range(2000):
            question = skill.question(generator, "train", long_share=0.5)
            yield f"{question.prompt} {question.answer}"


def tokens_of(tokenizer: PreTrainedTokenizerFast, prompt: str, answer: str) -> Row:
    """Tokenise prompt and answer together, as an evaluator does, and close with the end mark."""
    encode = tokenizer.backend_tokenizer.encode
    return Row([*encode(f"{prompt} {answer}").ids, EOS], len(encode(prompt).ids))


def padded(rows: Sequence[Row]) -> tuple[torch.Tensor, torch.Tensor]:
    """Stack rows into tokens and labels; only the answer and the end mark are labelled."""
    width = max(len(row.tokens) for row in rows)
    tokens = torch.full((len(rows), width), PAD)
    labels = torch.full((len(rows), width), IGNORED)
    for index, (row, prompt_length) in enumerate(rows):
        tokens[index, : len(row)] = torch.tensor(row)
        labels[index, prompt_length : len(row)] = torch.tensor(row[prompt_length:])
    return tokens, labels
