"""Which figures of a page must be those of the command."""

import pytest

from docs.likeness import alike, settled

MERGED = "blend: 2.8 MB in 0.13 s\nweights digest 0123456789abcdef"


@pytest.mark.parametrize(
    "printed",
    [
        "blend: 2.8 MB in 12.13 s\nweights digest 0123456789abcdef",
        "blend:  2.8 MB\nin 0.13 s weights digest\n0123456789abcdef",
    ],
)
def test_seconds_and_line_breaks_are_free(printed: str) -> None:
    assert alike(MERGED, printed, "cuvee merge a b")


@pytest.mark.parametrize(
    "printed",
    [
        "blend: 2.9 MB in 0.13 s\nweights digest 0123456789abcdef",
        "blend: 2.8 MB in 0.13 s\nweights digest 1123456789abcdef",
        "blend: 2.8 MB in 0.13 s",
        MERGED + "\nwarning: more",
    ],
)
def test_every_other_figure_and_word_counts(printed: str) -> None:
    assert not alike(MERGED, printed, "cuvee merge a b")


def test_a_block_can_say_that_its_digest_is_of_one_machine() -> None:
    other = MERGED.replace("0123", "ffff")
    assert alike(MERGED, other, "cuvee merge a b", ("digest",))


@pytest.mark.parametrize(("score", "near"), [("70.5%", True), ("71.0%", True), ("71.1%", False), ("−70.5%", False)])
def test_a_score_may_be_off_by_one_answer(score: str, near: bool) -> None:
    assert alike("sort 200 70.5%", f"sort 200 {score}", "cuvee evaluate blend sort") is near


def test_the_count_of_items_is_exact() -> None:
    assert not alike("sort 200 70.5%", "sort 199 70.5%", "cuvee evaluate blend sort")


def test_figures_of_commands_that_run_no_model_are_exact() -> None:
    assert not alike("cosine 0.456", "cosine 0.457", "cuvee compare a b")


def test_what_only_the_first_run_prints_is_left_out() -> None:
    first, *others = MERGED.splitlines()
    compiled = "besides, 4.2 s to compile kernels for this machine, once"
    assert settled("\n".join([first, compiled, *others])) == MERGED
