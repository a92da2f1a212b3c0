"""The rules of the house: what runs loads, what a person reads is described, what is locked fits."""

import importlib
import inspect
import pickle
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from prefect.flows import load_flow_from_entrypoint
from prefect.utilities.callables import parameter_schema

from messaging import errors
from schemas.campaign import CampaignSpec, RetryRequest, SendRequest
from schemas.contacts import ImportRequest
from schemas.controlling import CancelRequest, LimitRequest, PaceRequest, PauseRequest, ResolveRequest
from schemas.feedback import BouncesRequest, EventsRequest
from schemas.schedule import ScheduleSpec

ROOT = Path(__file__).parent.parent
PACKAGES = ["outflow", "deployments", "flows", "tasks", "blocks", "messaging", "schemas"]
DEPLOYMENTS = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = [line for lines in PROJECT["optional-dependencies"].values() for line in lines]
BOUNDS = [Requirement(line) for line in PROJECT["dependencies"] + EXTRAS if not line.startswith("outflow[")]
LOCK = (ROOT / "requirements.txt").read_text()
LOCKED = re.findall(r"^([\w.\-\[\],]+==[^ \\\n]+)[^\\\n]*((?:\\\n.*)*)", LOCK, re.MULTILINE)


def all_errors(base: type = errors.MessagingError) -> list[type]:
    for module in (ROOT / "messaging").rglob("*.py"):
        if "migrations" not in module.parts and module.name != "__init__.py":
            importlib.import_module(".".join(module.relative_to(ROOT).with_suffix("").parts))
    return [base, *(found for child in base.__subclasses__() for found in all_errors(child))]


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=lambda deployment: deployment["name"])
def test_every_deployment_loads_has_a_form_and_says_what_it_does(deployment: dict):
    flow = load_flow_from_entrypoint(deployment["entrypoint"])

    assert set(parameter_schema(flow).properties) == set(inspect.signature(flow.fn).parameters)
    assert deployment["description"].strip().endswith(".")


@pytest.mark.parametrize("name", PACKAGES)
def test_every_package_of_ours_is_found_in_the_repository(name: str):
    assert ROOT in Path(importlib.import_module(name).__file__).parents


@pytest.mark.parametrize("kind", all_errors())
def test_every_error_pickles_with_its_text(kind: type):
    before = kind("batch 7 was taken over")
    after = pickle.loads(pickle.dumps(before))  # noqa: S301 - our own

    assert (type(after), str(after)) == (kind, str(before))


@pytest.mark.parametrize(
    "model",
    [
        BouncesRequest,
        CampaignSpec,
        CancelRequest,
        EventsRequest,
        ImportRequest,
        LimitRequest,
        PaceRequest,
        PauseRequest,
        ResolveRequest,
        RetryRequest,
        ScheduleSpec,
        SendRequest,
    ],
)
def test_every_field_of_a_form_is_described(model: type):
    assert {name for name, field in model.model_fields.items() if not field.description} == set()


def test_the_lock_names_no_index():
    assert not re.search(
        r"https?://|--(?:extra-)?index-url|--find-links|--trusted-host|^-[if] ", LOCK, re.MULTILINE
    )


def test_the_lock_has_a_hash_for_every_requirement():
    pinned = [line for line in LOCK.splitlines() if re.match(r"\w", line)]

    assert len(pinned) == len(LOCKED) > len(BOUNDS)
    assert [requirement for requirement, rest in LOCKED if "--hash=sha256:" not in rest] == []


@pytest.mark.parametrize("bound", BOUNDS, ids=lambda bound: bound.name)
def test_the_lock_satisfies_the_bounds_of_the_project(bound: Requirement):
    pins = [Requirement(requirement) for requirement, _ in LOCKED]
    [pin] = [pin for pin in pins if canonicalize_name(pin.name) == canonicalize_name(bound.name)]

    assert bound.specifier.contains(next(iter(pin.specifier)).version)


def test_every_dependency_says_why_it_is_there():
    lines = (ROOT / "pyproject.toml").read_text().splitlines()
    named = [line for line in lines if re.match(r'\s+"[\w.\-]+(\[[\w,]+\])?[<>=~!]', line)]

    assert len(named) == len(BOUNDS)
    assert [line for line in named if not re.search(r'",\s+# \w', line)] == []


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("messaging.campaign.sending", "prefect boto3 googleapiclient neonize aiohttp"),
        ("messaging.audience.importing", "prefect"),
        ("schemas.campaign", "prefect"),
        ("blocks", "boto3 prefect_aws googleapiclient neonize aiohttp"),
        ("outflow", "prefect polars phonenumbers jinja2"),
        ("messaging.reports.numbers", "prefect polars phonenumbers"),
    ],
)
def test_a_module_does_not_pay_for_what_it_does_not_use(module: str, absent: str):
    code = f"import {module}, sys; sys.exit(' '.join({absent.split()} & sys.modules.keys()) or None)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd="/")

    assert done.stderr == ""
