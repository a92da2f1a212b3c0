"""An Amazon SES account keeps its secrets to itself, finds a team's credentials, and sends."""

import importlib
import json
import subprocess
import sys
import tempfile

import pytest
from prefect import settings as prefect_settings
from prefect.settings import temporary_settings
from prefect.testing.utilities import prefect_test_harness
from pydantic import SecretStr, ValidationError

from blocks.ses_account import SesAccount
from messaging.channels.base import Message
from messaging.errors import AccountError, InputError
from schemas.states import Outcome
from tests.fakes.ses import KEY_ID, REGION, SECRET, FakeSes

SENDER = "Shop <news@shop.example.org>"
MESSAGE = Message(
    1,
    "news@shop.example.org",
    "ada@example.org",
    b"From: news@shop.example.org\r\n\r\nHello\r\n",
    "c0ffee",
    18,
)


def account(**values: object) -> SesAccount:
    usual = {"region": REGION, "sender": SENDER, "access_key_id": KEY_ID, "secret_access_key": SECRET}
    return SesAccount(**usual | values)


@pytest.fixture
async def fake():
    async with FakeSes().running() as running:
        yield running


async def marked() -> None:
    return None


async def test_an_open_account_sends(fake: FakeSes):
    async with account(endpoint=fake.endpoint, configuration_set="outflow", connections=2).open() as pool:
        async with pool.sender() as sender:
            receipt = await sender.send(MESSAGE, marked)
        assert pool.connections == 2

    assert receipt.outcome is Outcome.ACCEPTED
    assert fake.sent[0].tags == {"campaign": "18", "attempt": "c0ffee"}
    assert fake.sent[0].configuration_set == "outflow"


async def test_verifying_says_what_was_met_and_sends_nothing(fake: FakeSes):
    met = await account(endpoint=fake.endpoint, configuration_set="outflow").verify()

    assert met.startswith(
        "Amazon SES in eu-west-1, key …7EXA: shop.example.org is verified, production access"
    )
    assert fake.asked["SendEmail"] == 0


async def test_verifying_refused_keys_says_so_without_the_secret(fake: FakeSes):
    with pytest.raises(AccountError, match="does not belong to the key id") as refusal:
        await account(endpoint=fake.endpoint, secret_access_key="canary-Zq9").verify()

    assert "canary" not in str(refusal.value)


async def test_its_secrets_show_nowhere():
    saved = account(session_token=SecretStr("canary-token"))

    shown = [repr(saved), str(saved), saved.model_dump_json(), json.dumps(saved.model_dump(mode="json"))]
    shown.append(repr(await saved.settings()))
    assert not any(secret in text for text in shown for secret in (SECRET, "canary-token"))


async def test_a_region_is_asked_for():
    with pytest.raises(InputError, match="region"):
        await account(region="").settings()


@pytest.mark.parametrize("values", [{"sender": "nobody"}, {"endpoint": "localhost"}, {"connections": 0}])
def test_what_can_never_work_is_not_saved(values: dict):
    with pytest.raises(ValidationError):
        account(**values)


def test_the_form_is_plain_text_boxes_and_hides_secrets():
    fields = SesAccount.model_json_schema()["properties"]

    assert {name for name, field in fields.items() if field.get("format") == "password"} == {
        "secret_access_key", "session_token",
    }  # fmt: skip
    assert not any("anyOf" in field for field in fields.values())


def test_neither_boto3_nor_prefects_aws_package_is_imported_with_the_block():
    code = (
        "import blocks.ses_account, sys; "
        "sys.exit(' '.join({'boto3', 'botocore', 'prefect_aws'} & sys.modules.keys()) or None)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd="/")

    assert done.stderr == ""


async def test_a_teams_aws_credentials_serve(fake: FakeSes):
    prefect_aws = importlib.import_module("prefect_aws")  # here: it takes five seconds
    with (
        tempfile.TemporaryDirectory(prefix="outflow-prefect-") as folder,
        temporary_settings({prefect_settings.PREFECT_HOME: folder}),
        prefect_test_harness(server_startup_timeout=180),
    ):
        team = prefect_aws.AwsCredentials(
            aws_access_key_id=KEY_ID, aws_secret_access_key=SecretStr(SECRET), region_name=REGION
        )
        await team.asave("team")
        own = {"region": "", "access_key_id": "", "secret_access_key": "", "endpoint": fake.endpoint}
        await account(credentials="aws-credentials/team", **own).asave("main")

        loaded = await SesAccount.aload("main")
        met = await loaded.verify()
        with pytest.raises(InputError, match="no AWS Credentials block 'nobody'"):
            await account(credentials="nobody", **own).verify()
        with pytest.raises(InputError, match="not both"):
            await account(credentials="team").verify()

    assert met.startswith("Amazon SES in eu-west-1, key …7EXA")
