"""Local times and zones as people, and YAML, write them."""

import pytest
import yaml
from pydantic import TypeAdapter, ValidationError

from schemas.times import LocalTime, TimeZone

TIME = TypeAdapter(LocalTime)


@pytest.mark.parametrize(
    ("written", "time"),
    [
        ("2027-03-20T09:00", "2027-03-20T09:00"),
        ("2027-03-20T09:00:00", "2027-03-20T09:00"),  # YAML makes a time of it
        ("2027-03-20 09:00:30", "2027-03-20T09:00"),
        ("2027-03-20", "2027-03-20T00:00"),
        ("", ""),
    ],
)
def test_a_time_in_yaml_is_what_was_written(written: str, time: str):
    assert TIME.validate_python(yaml.safe_load(f"at: {written}")["at"]) == time


@pytest.mark.parametrize("written", ["2027-03-20T09:00:00Z", "'2027-03-20T09:00+02:00'"])
def test_a_time_with_an_offset_is_refused(written: str):
    with pytest.raises(ValidationError, match="names an offset: leave it out"):
        TIME.validate_python(yaml.safe_load(f"at: {written}")["at"])


@pytest.mark.parametrize("written", ["0001-01-01T00:00", "1999-12-31T23:59", "9999-12-31T23:59"])
def test_a_time_that_is_centuries_off_is_refused(written: str):
    with pytest.raises(ValidationError, match="is not from 2000 to 2200"):
        TIME.validate_python(written)


@pytest.mark.parametrize("name", ["Europe/Nowhere", "Europe", "../etc/passwd", "", "+02:00"])
def test_a_zone_that_is_none_is_refused_in_a_sentence(name: str):
    with pytest.raises(ValidationError, match="there is no time zone"):
        TypeAdapter(TimeZone).validate_python(name)
