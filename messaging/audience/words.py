"""Words of many languages, kept as data beside the code: `header_words.toml` and its like."""

import tomllib
from functools import cache
from importlib import resources


@cache
def words_of(file: str, table: str) -> dict[str, list[str]]:
    """Return a table of such a file: the words of each of its keys."""
    data = tomllib.loads(resources.files(__package__).joinpath(f"{file}_words.toml").read_text("utf-8"))
    return {key: [" ".join(word.split()) for word in words.split(",")] for key, words in data[table].items()}
