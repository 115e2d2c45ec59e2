"""Scores in a model's card: a table for people, an index for a hub."""

import pytest
import yaml
from huggingface_hub import ModelCard

from cuvee.errors import CheckpointError
from cuvee.report.scored_card import BEGIN, scored_card
from report.evaluations import evaluated

CARD = "---\nlibrary_name: transformers\nlicense: mit\n---\n\n# A blend\n\nMade of two.\n\n## Parents\n\n- one\n"
REPORT = evaluated("out/blend", right=[True, True, False, True]).report


def front_of(card: str) -> dict[str, object]:
    front: dict[str, object] = yaml.safe_load(card.split("---\n")[1])
    return front


def test_a_hub_reads_every_score_with_its_interval() -> None:
    card = ModelCard(scored_card(CARD, REPORT))
    assert card.data.license == "mit"
    assert card.data.model_name == "blend"
    results = {result.dataset_name: result for result in card.data.eval_results}
    assert set(results) == {"places", "texts"}
    places = results["places"]
    assert (places.metric_type, places.metric_value) == ("accuracy", 0.75)
    assert places.dataset_args["items"] == 4
    score = REPORT.task("places").main
    assert score is not None
    assert places.metric_args["interval_95"] == [round(score.low, 4), round(score.high, 4)]


def test_people_read_a_table_before_the_parents() -> None:
    card = scored_card(CARD, REPORT, sentence="Gained: places.")
    assert "| places | accuracy | 4 | 75.0% |" in card
    assert (
        card.index("Made of two.") < card.index("## Scores") < card.index("Gained: places.") < card.index("## Parents")
    )


def test_later_scores_take_the_place_of_earlier_ones() -> None:
    once = scored_card(CARD, REPORT)
    other = evaluated("out/blend", right=[True, True]).report
    assert scored_card(scored_card(CARD, other), REPORT) == once
    assert once.count(BEGIN) == 1


def test_a_card_without_a_head_or_headings_gets_both() -> None:
    card = scored_card("A model.", REPORT)
    assert list(front_of(card)) == ["model-index"]
    assert card.index("A model.") < card.index("## Scores")


@pytest.mark.parametrize("head", ["a: [", "- a list"])
def test_a_card_with_a_damaged_head_is_refused(head: str) -> None:
    with pytest.raises(CheckpointError, match="the card's head"):
        scored_card(f"---\n{head}\n---\n", REPORT)
