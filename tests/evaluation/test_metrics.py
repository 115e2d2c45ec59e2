"""Metrics, by examples worked by hand."""

import pytest

from cuvee.evaluation.instructions import constraints, followed
from cuvee.evaluation.metrics import TEXT_METRICS, exact_match, f1, normalised_match, number_match, score
from cuvee.evaluation.task import Sample


@pytest.mark.parametrize(
    ("prediction", "target", "value"),
    [(" a  b\n", "a b", 1.0), ("A b", "a b", 0.0), ("a b.", "a b", 0.0), ("", "a", 0.0)],
)
def test_exact_match_ignores_whitespace_only(prediction: str, target: str, value: float) -> None:
    assert exact_match(prediction, target) == value


@pytest.mark.parametrize(
    ("prediction", "target", "value"),
    [
        ("first 3, then 1,234.50.", "1234.5", 1.0),
        ("it is -4", "4", 0.0),
        ("5-3", "3", 1.0),
        ("1,2", "2", 1.0),
        ("so .5", "0.5", 1.0),
        ("3.", "3", 1.0),
        ("nothing", "3", 0.0),
        ("12", "2", 0.0),
    ],
)
def test_number_match_compares_the_last_numbers(prediction: str, target: str, value: float) -> None:
    assert number_match(prediction, target) == value


@pytest.mark.parametrize(
    ("prediction", "target", "value"),
    [("The red fox.", "a fox", 2 / 3), ("fox fox", "fox", 2 / 3), ("dog", "fox", 0.0), ("the", "a", 1.0)],
)
def test_f1_counts_shared_words(prediction: str, target: str, value: float) -> None:
    assert f1(prediction, target) == pytest.approx(value)


def test_text_metrics_compare_the_texts_of_choices() -> None:
    sample = Sample("0", "q", "multiple_choice", ("red fox", "grey fox", "red  fox"), 0)
    assert [score("accuracy", sample, place) for place in range(3)] == [1.0, 0.0, 0.0]
    assert [score("exact_match", sample, place) for place in range(3)] == [1.0, 0.0, 1.0]
    assert [score("f1", sample, place) for place in range(3)] == [1.0, 0.5, 1.0]


TEXTS = [
    ("the cat sat on the mat", "the cat was on the mat"),
    ("", "something"),
    ("Two lines.\nOf text here.", "Of text there.\nTwo other lines."),
    ("running dogs", "run dog"),
    ("Ünïcode 漢字 3.5", "unicode 漢字 3.5"),
    ("same", "same"),
]


@pytest.mark.parametrize(("prediction", "target"), TEXTS)
def test_rouge_is_that_of_rouge_score(prediction: str, target: str) -> None:
    from rouge_score.rouge_scorer import RougeScorer

    names = ["rouge1", "rouge2", "rougeL", "rougeLsum"]
    expected = RougeScorer(names).score(target, prediction)
    assert [TEXT_METRICS[name](prediction, target) for name in names] == [expected[name].fmeasure for name in names]


def test_rouge_by_hand() -> None:
    assert TEXT_METRICS["rouge1"](*TEXTS[0]) == pytest.approx(5 / 6)
    assert TEXT_METRICS["rouge2"](*TEXTS[0]) == pytest.approx(3 / 5)


@pytest.mark.parametrize(("prediction", "target"), TEXTS)
def test_chrf_and_bleu_are_those_of_sacrebleu(prediction: str, target: str) -> None:
    import sacrebleu

    assert TEXT_METRICS["chrf"](prediction, target) == sacrebleu.sentence_chrf(prediction, [target]).score / 100
    assert TEXT_METRICS["bleu"](prediction, target) == pytest.approx(
        sacrebleu.sentence_bleu(prediction, [target]).score / 100
    )


@pytest.mark.parametrize(("prediction", "value"), [("The Fox!", 1.0), ("a fox", 1.0), ("foxes", 0.0)])
def test_normalised_match_ignores_case_punctuation_and_articles(prediction: str, value: float) -> None:
    assert normalised_match(prediction, "fox") == value


@pytest.mark.parametrize(
    ("instruction", "kind", "kept", "broken"),
    [
        ("Do not use any commas.", "no_commas", "one two", "one, two"),
        ("Refrain from using commas.", "no_commas", "one two", "one, two"),
        ("Use all lowercase letters.", "lowercase", "ja 3", "Ja"),
        ("Answer in all capital letters.", "capitals", "JA 3", "Ja"),
        ("Wrap your entire response with double quotation marks.", "quoted", ' "yes" ', "yes"),
        ("Write at least 3 words.", "words", "a b c", "a b"),
        ("Write a 3+ word text.", "words", "a b c", "a b"),
        ("Write with more than 3 words.", "words", "a b c d", "a b c"),
        ("Write in less than 3 words.", "words", "a b", "a b c"),
        ("Use fewer than 3 sentences.", "sentences", "One. Two!", "One. Two! Three"),
        ("Write a 2 paragraph text.", "paragraphs", "One.\n\nTwo.", "One.\nTwo."),
        ("Use at least two placeholders.", "placeholders", "[a] [b]", "[a]"),
        ("It must contain exactly 2 bullet points.", "bullets", "* a\n* b", "* a"),
        ("Highlight at least two sections.", "highlights", "*a* and *b*", "*a*"),
        ("Add a title, i.e. <<title>>.", "title", "<<So>> it goes", "So"),
        ("Add a postscript starting with P.S.", "postscript", "So.\nP.S. No", "So."),
        ("Give two responses separated by ******.", "responses", "a******b", "a"),
        ('Include keywords "red" and "blue".', "keywords", "red blue", "green"),
        ('The word "red" should appear at least 2 times.', "frequency", "red Red", "red"),
        ("The letter o should appear at least 3 times.", "frequency", "Oh, no, so", "Oh, no"),
    ],
)
def test_instructions_are_checked(instruction: str, kind: str, kept: str, broken: str) -> None:
    assert {each.kind for each in constraints(instruction)} == {kind}
    assert (followed(instruction, kept), followed(instruction, broken)) == (1.0, 0.0)


def test_the_share_of_instructions_that_were_followed_needs_no_target() -> None:
    sample = Sample("0", "Write at least 2 words, in all lowercase letters, without commas.", "generation")
    assert [score("instructions", sample, text) for text in ("a b", "A b", "A")] == pytest.approx([1, 2 / 3, 1 / 3])
    assert score("instructions", Sample("1", "Write a poem.", "generation"), "x") is None
