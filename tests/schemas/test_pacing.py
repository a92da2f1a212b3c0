"""What a person may write about pace, and what is said when it does not fit."""

import pytest
from pydantic import ValidationError

from schemas.durations import seconds_of
from schemas.limits import rate_text
from schemas.pacing import Pacing, WarmUp


@pytest.mark.parametrize(
    ("values", "per_second"),
    [
        ({}, None),
        (None, None),
        ({"rate": "50/s"}, 50),
        ({"rate": "3000 / h"}, 3000 / 3600),
        ({"delay": "2s"}, 0.5),
        ({"human": "10-25s"}, 2 / 35),
        ({"human": "1 - 3 m"}, 1 / 120),
        ({"warm_up": {"start": 200, "growth": 1.5}}, None),
        ({"warm_up": {"start": 200}, "rate": "10/s"}, 10),
        ({"rate": None, "delay": None, "human": "", "warm_up": None}, None),
    ],
)
def test_every_way_to_write_a_pace_is_read(values: dict | None, per_second: float | None):
    pacing = Pacing.model_validate(values or {})

    assert pacing.per_second == (None if per_second is None else pytest.approx(per_second))


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"rate": "fast"}, "'fast' is not a rate: write a number, a slash and s, m, h or d, as in 50/s"),
        ({"rate": "0/s"}, "'0/s' is not a rate"),
        ({"delay": "2"}, "'2' is not a length of time: write a number and s, m, h or d"),
        ({"delay": "0s"}, "a delay of nothing is no delay: leave it out"),
        ({"human": "10s"}, "'10s' is not a span of time: write two numbers"),
        ({"human": "25-10s"}, "the first number is the smaller one"),
        ({"human": "0-10s"}, "and not 0"),
        ({"rate": "5/s", "delay": "2s"}, "rate and delay exclude each other: choose one"),
        ({"warm_up": {"start": -1}}, "greater than or equal to 0"),
        ({"warm_up": {"growth": 0.5}}, "greater than or equal to 1"),
    ],
)
def test_what_is_no_pace_is_refused_with_a_sentence(values: dict, sentence: str):
    with pytest.raises(ValidationError, match=sentence.replace("(", r"\(")):
        Pacing.model_validate(values)


def test_a_warm_up_grows_day_by_day_and_never_overflows():
    warm_up = WarmUp(start=200, growth=1.5)

    assert [warm_up.cap(day) for day in range(4)] == [200, 300, 450, 675]
    assert warm_up.cap(5000) == 1_000_000_000
    assert WarmUp().cap(0) is None


def test_a_form_shows_every_part_of_a_pace_as_one_box():
    schema = Pacing.model_json_schema()

    assert {name: field.get("type") for name, field in schema["properties"].items()} == {
        "rate": "string",
        "delay": "string",
        "human": "string",
        "warm_up": None,  # a model of its own
    }
    assert schema["properties"]["warm_up"]["$ref"] == "#/$defs/WarmUp"


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("15m", 900), ("4h", 14_400), ("1.5 d", 129_600), (" 2d ", 172_800)]
)
def test_lengths_of_time_are_read(text: str, seconds: float):
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["200/s", "50/m", "3000/h", "100/m", "5000/d", "1.5/s"])
def test_rates_are_shown_so_that_they_can_be_written_again(text: str):
    read = Pacing(rate=text).per_second

    assert Pacing(rate=rate_text(read)).per_second == pytest.approx(read)
