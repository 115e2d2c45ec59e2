"""What a program can measure of a page in a browser: words that are broken, and targets too small for a finger."""

from typing import Any

LONGEST_WORD = 24
"""Letters; what is longer, as a digest, may be broken."""

LEAST_TARGET = 24
"""Pixels that a target is high or wide at least (WCAG 2.2, 2.5.8). Links within sentences and tables may be smaller."""

_BROKEN = """(longest) => {
  const broken = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode;
    if (!node.parentElement.checkVisibility()) continue;
    for (const match of node.data.matchAll(/[^\\s-]+/gu)) {
      if (match[0].length > longest) continue;
      const range = document.createRange();
      range.setStart(node, match.index);
      range.setEnd(node, match.index + match[0].length);
      const tops = [...range.getClientRects()].filter((box) => box.width).map((box) => Math.round(box.top));
      if (Math.max(...tops) - Math.min(...tops) > 4) broken.push(match[0]);
    }
  }
  return broken;
}"""

_SMALL = """(least) => {
  const small = [];
  for (const target of document.querySelectorAll("button, .button, summary, select, input, nav a, a.sort")) {
    if (!target.checkVisibility() || target.matches("[type=hidden], button.plain")) continue;
    const box = target.getBoundingClientRect();
    if (box.height < least - 0.5) small.push(`${target.textContent.trim() || target.name}: ${box.height}`);
  }
  return small;
}"""


def broken_words(page: Any) -> list[str]:
    """Return the words that go over the end of a line."""
    broken: list[str] = page.evaluate(_BROKEN, LONGEST_WORD)
    return broken


def small_targets(page: Any) -> list[str]:
    """Return what is to be pressed and is too low for a finger."""
    small: list[str] = page.evaluate(_SMALL, LEAST_TARGET)
    return small
