"""Text without what nobody sees."""

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from messaging.audience.cleaning import cleaned, cleaned_column, stripped
from tests.messaging.audience import row_loop


def clean(text: str | None) -> str | None:
    return cleaned_column(pl.Series([text], dtype=pl.String)).item()


@pytest.mark.parametrize(
    ("given", "seen"),
    [
        ("Ada", "Ada"),
        ("  Ada \t Lovelace\u3000", "Ada Lovelace"),
        ("Ada\xa0Lovelace", "Ada Lovelace"),
        ("Ada\r\nLovelace", "Ada Lovelace"),
        ("A\0d\x07a\x7f", "Ada"),
        ("Jose\u0301", "José"),
        ("\u1112\u1161\u11ab", "한"),
        ("\ufeffAda\u200b", "Ada"),
        ("soft\xadhyphen", "softhyphen"),
        ("\u202eevil\u202c\u2066x\u2069", "evilx"),
        ("A\u200dda\u200c", "Ada"),
        ("\U000e0041Ada\U000e0042", "Ada"),
        ("", None),
        (" \u200b\xa0", None),
        ("\u200d", None),
        (None, None),
    ],
)
def test_what_nobody_sees_is_gone(given: str | None, seen: str | None):
    assert clean(given) == seen


@pytest.mark.parametrize("text", ["👩\u200d💻", "نامه\u200cای", "क\u094d\u200dष", "❤\ufe0f\u200d🔥"])  # noqa: RUF001
def test_joiners_stay_where_they_change_what_one_sees(text: str):
    assert clean(text) == text


def test_edges_alone_can_be_stripped():
    texts = pl.DataFrame({"text": ["\u200b a \u200b b\xa0", "\ufeff", None]})

    assert texts.select(stripped(pl.col("text"))).to_series().to_list() == ["a \u200b b", None, None]


# Letters of many scripts, their marks apart, and everything that is taken out.
some_text = st.text(
    st.sampled_from("aé ñŁжйЖΩάאبآمかが漢字한글ไทยकष\u0301\u0308\u0327\u3099\u0654\u1112\u1161\u11ab\u0345")
    | st.sampled_from(" \t\n\r\x85\xa0\u2003\u2028\u3000\0\x07\x1c\x7f\x9f")
    | st.sampled_from("\xad\u061c\u180e\u200b\u200e\u200f\u202a\u202e\u2060\u2066\ufeff\ufffb")
    | st.sampled_from("👩💻🏽🇩🇪\ufe0f\u200d\u200c"),
    max_size=12,
)


@given(st.lists(st.none() | some_text))
def test_columns_are_cleaned_as_by_a_loop_over_characters(texts: list[str | None]):
    expected = [row_loop.clean(text) or None if text is not None else None for text in texts]

    column = pl.Series("text", texts, dtype=pl.String)

    assert cleaned_column(column).to_list() == expected
    assert column.to_frame().select(cleaned(pl.col("text"))).to_series().to_list() == expected
    assert column.to_list() == texts  # a copy was mended
