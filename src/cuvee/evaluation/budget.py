"""How much of a batch a model can take at once: keys and values within memory, and work that fills the processor."""

from cuvee.evaluation.model import LanguageModel

KEPT_BYTES = 512 * 2**20
LOGITS_AT_ONCE = 64 * 2**20
MIN_TOKENS, MAX_TOKENS = 512, 16384
CPU_WORK = 500 * 10**9
"""Parameters times tokens: measured with 135 million, where 4 items at once beat 15 by half."""


def token_budget(model: LanguageModel, cpu_work: int = CPU_WORK) -> int:
    """Return how many padded tokens a batch may have: their keys and values stay within half a gigabyte.

    A CPU is busy with a few hundred tokens of a large model, `cpu_work` parameters times tokens; more rows would only
    bring more padding.
    """
    kept_tokens = KEPT_BYTES // model.abilities.kept_bytes
    busy = cpu_work // model.network.num_parameters() if model.device.type == "cpu" else MAX_TOKENS
    return max(MIN_TOKENS, min(MAX_TOKENS, kept_tokens, busy))


def written_tokens(model: LanguageModel) -> int:
    """Return how many padded tokens the rows that are written at once may have.

    A step shows the network a token of each row, which fills no processor: only what is kept of them counts.
    """
    return max(MIN_TOKENS, min(MAX_TOKENS, KEPT_BYTES // model.abilities.kept_bytes))
