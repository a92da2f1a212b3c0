"""The cases of max-mapper/csv-spectrum: the same cells as its answers."""

import io
import json

import pytest

from messaging.audience.files.child import read
from messaging.audience.files.layout import ReadOptions

POINT = '{"type": "Point", "coordinates": [102.0, 0.5]}'
CASES: dict[str, tuple[str, list[dict[str, str]]]] = {
    "comma_in_quotes": (
        'first,last,address,city,zip\nJohn,Doe,120 any st.,"Anytown, WW",08123\n',
        [{"first": "John", "last": "Doe", "address": "120 any st.", "city": "Anytown, WW", "zip": "08123"}],
    ),
    "empty": ('a,b,c\n1,"",""\n2,3,4\n', [{"a": "1", "b": "", "c": ""}, {"a": "2", "b": "3", "c": "4"}]),
    "empty_crlf": (
        'a,b,c\r\n1,"",""\r\n2,3,4\r\n',
        [{"a": "1", "b": "", "c": ""}, {"a": "2", "b": "3", "c": "4"}],
    ),
    "escaped_quotes": (
        'a,b\n1,"ha ""ha"" ha"\n3,4\n',
        [{"a": "1", "b": 'ha "ha" ha'}, {"a": "3", "b": "4"}],
    ),
    "json": (f"key,val\n1,{json.dumps(POINT).replace(chr(92), chr(34))}\n", [{"key": "1", "val": POINT}]),
    "location_coordinates": (
        """Contact Phone Number,Location Coordinates,Cities,Counties
02095257564,37\ufffd36'37.8"N 121\ufffd2'17.9"W,Modesto,Stanislaus""",
        [
            {
                "Contact Phone Number": "02095257564",
                "Location Coordinates": "37\ufffd36'37.8\"N 121\ufffd2'17.9\"W",
                "Cities": "Modesto",
                "Counties": "Stanislaus",
            }
        ],
    ),
    "newlines": (
        'a,b,c\n1,2,3\n"Once upon \na time",5,6\n7,8,9\n',
        [
            {"a": "1", "b": "2", "c": "3"},
            {"a": "Once upon \na time", "b": "5", "c": "6"},
            {"a": "7", "b": "8", "c": "9"},
        ],
    ),
    "newlines_crlf": (
        'a,b,c\r\n1,2,3\r\n"Once upon \r\na time",5,6\r\n7,8,9\r\n',
        [
            {"a": "1", "b": "2", "c": "3"},
            {"a": "Once upon \r\na time", "b": "5", "c": "6"},
            {"a": "7", "b": "8", "c": "9"},
        ],
    ),
    "quotes_and_newlines": (
        'a,b\n1,"ha \n""ha"" \nha"\n3,4\n',
        [{"a": "1", "b": 'ha \n"ha" \nha'}, {"a": "3", "b": "4"}],
    ),
    "simple": ("a,b,c\n1,2,3\n", [{"a": "1", "b": "2", "c": "3"}]),
    "simple_crlf": ("a,b,c\r\n1,2,3\r\n", [{"a": "1", "b": "2", "c": "3"}]),
    "utf8": (
        "a,b,c\n1,2,3\n4,5,ʤ\n",
        [{"a": "1", "b": "2", "c": "3"}, {"a": "4", "b": "5", "c": "ʤ"}],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_the_cells_are_those_of_the_answer(case: str):
    content, answer = CASES[case]

    reading = read(io.BufferedReader(io.BytesIO(content.encode())), f"{case}.csv", ReadOptions())

    rows = [
        {name: cell or "" for name, cell in zip(reading.layout.header, row[1:-2], strict=True)}
        for chunk in reading.chunks
        for row in chunk.rows()
    ]
    assert rows == answer
