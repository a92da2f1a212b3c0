"""How languages spell, for telling legacy encodings apart: `spelling_words.toml`."""

import math
import tomllib
from collections import Counter
from dataclasses import dataclass
from functools import cache
from importlib import resources
from itertools import pairwise
from typing import Any


@dataclass(frozen=True, slots=True)
class Spelling:
    """Likelihoods of a language's letters, as logarithms, and which of them stand side by side."""

    letters: dict[str, float]
    pairs: set[tuple[str, str]]
    is_latin: bool
    """Most letters are ASCII, and only the others count."""


@cache
def spelling(language: str) -> Spelling:
    """Return how a language spells, by its words in the tables."""
    if language in (latin := words()["latin"]):
        text = _on_one_line(latin[language]["words"])
        weights = {
            letter: 1 / rank for rank, letter in enumerate(lowered(latin[language]["letters"]), start=2)
        }
        # A language with few such letters must not win by that.
        total = max(sum(weights.values()), 1.5)
    else:
        text = _on_one_line(words()["scripts"][language])
        weights = dict(Counter(lowered(text).replace(" ", "")))
        total = sum(weights.values())
    letters = {letter: math.log(weight / total) for letter, weight in weights.items()}
    return Spelling(letters, set(pairwise(f" {lowered(text)} ")), is_latin=language in latin)


@cache
def common_characters(language: str) -> frozenset[str]:
    """Return the characters of everyday names and notes of an East Asian language."""
    return frozenset(words()["characters"][language].replace("\n", ""))


@cache
def words() -> dict[str, Any]:
    """Return the tables."""
    return tomllib.loads(resources.files(__package__).joinpath("spelling_words.toml").read_text("utf-8"))


def lowered(text: str) -> str:
    """Return text in small letters, one for one: the Turkish capital with a dot has none of its own."""
    return "".join(small if len(small := letter.lower()) == 1 else letter for letter in text)


def _on_one_line(text: str) -> str:
    return " ".join(text.split())
