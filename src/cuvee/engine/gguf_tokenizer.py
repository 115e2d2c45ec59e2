"""A plan whose output has the tokenizer of a GGUF file -> the same plan with the tokenizer's files."""

from dataclasses import replace

from cuvee.plan import Plan
from cuvee.tokenizers.gguf import can_read_gguf, lies_in_gguf, tokenizer_texts
from cuvee.tokenizers.read import JSON


def with_gguf_tokenizer(plan: Plan) -> Plan:
    """Make the files before a tensor is read: a tokenizer that cannot be read is an error, but not a late error."""
    place = plan.sources[plan.vocabulary.donor].place
    is_made = JSON in plan.vocabulary.texts
    if place is None or is_made or not lies_in_gguf(place):
        return plan
    if not can_read_gguf():
        return plan
    texts = {**tokenizer_texts(place), **plan.vocabulary.texts}
    return replace(plan, vocabulary=replace(plan.vocabulary, texts=texts))
