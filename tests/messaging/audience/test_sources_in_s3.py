"""Files in S3, by a server of its protocol on loopback."""

import logging
from collections.abc import Callable, Iterator

import boto3
import fsspec
import pytest
from moto.server import ThreadedMotoServer

from messaging.audience.sources import fetched, find_files, new_files
from messaging.errors import InputError

PEOPLE = b"email\nada@example.org\n"
# Its clients leave sockets to the collector.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")

Put = Callable[[str], None]


@pytest.fixture(scope="module")
def store() -> Iterator[str]:
    """The address of a server that holds one bucket."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def put(store: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Put]:
    """Put an object into the bucket, as another program does; the environment leads to it."""
    for name, value in {
        "AWS_ENDPOINT_URL": store,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "eu-west-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)
    client = boto3.client("s3")
    client.create_bucket(Bucket="shop", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    yield lambda key: client.put_object(Bucket="shop", Key=key, Body=PEOPLE) and None
    for listed in client.list_objects_v2(Bucket="shop").get("Contents", []):
        client.delete_object(Bucket="shop", Key=listed["Key"])
    client.delete_bucket(Bucket="shop")
    fsspec.filesystem("s3").clear_instance_cache()


def test_an_object_is_fetched_and_a_pattern_finds_it(put: Put):
    put("exports/people.csv")

    assert find_files(["s3://shop/exports/*.csv"]) == ["s3://shop/exports/people.csv"]
    with fetched("s3://shop/exports/people.csv") as path:
        assert (path.name, path.read_bytes()) == ("people.csv", PEOPLE)


def test_a_watched_prefix_gives_each_object_once_and_as_soon_as_it_is_there(put: Put):
    put("incoming/")  # what consoles make of an empty folder
    put("incoming/old/x.csv")
    put("incoming/monday.csv")
    first = new_files("s3://shop/incoming", "*.csv", set())
    put("incoming/tuesday.csv")
    put("incoming/notes.txt")

    later = new_files("s3://shop/incoming/", "*.csv", {found.source for found in first})

    assert [found.reference for found in first] == ["s3://shop/incoming/monday.csv"]
    assert [found.name for found in later] == ["tuesday.csv"]


def test_a_prefix_without_an_object_is_an_empty_folder(put: Put):
    put("people.csv")

    assert new_files("s3://shop/later", "*", set()) == []
    with pytest.raises(InputError, match="there is no folder s3://bazaar/later"):
        new_files("s3://bazaar/later", "*", set())


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({}, "there is no file s3://shop/people.csv"),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, r"cannot be fetched \(EndpointConnectionError\): check"),
        ({"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, r"cannot be fetched \(NoCredentialsError\)"),
    ],
    ids=["missing", "store is down", "no keys"],
)
@pytest.mark.usefixtures("put")
def test_what_cannot_be_fetched_gets_a_sentence(
    monkeypatch: pytest.MonkeyPatch, change: dict[str, str], sentence: str
):
    fsspec.filesystem("s3").clear_instance_cache()
    for name, value in change.items():
        monkeypatch.setenv(name, value)

    with pytest.raises(InputError, match=sentence), fetched("s3://shop/people.csv"):
        pass
