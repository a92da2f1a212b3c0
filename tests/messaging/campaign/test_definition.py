"""Campaign files: what is read, and what is said about what cannot be."""

from pathlib import Path

import pytest

from messaging.campaign.definition import load_campaign, resolve_templates
from messaging.campaign.templates import check_fields, compile_templates
from messaging.errors import InputError
from schemas.campaign import MAX_TEMPLATE_SIZE, CampaignSpec

EXAMPLES = Path(__file__).parents[3] / "examples"
GOOD = {"name": "spring", "account": "smtp-account/demo", "audience": "customers", "subject": "Hello"}


@pytest.fixture
def campaign(tmp_path: Path):
    """Write campaign.yaml: the fields it needs, and these lines."""

    def write(*lines: str, **changes: str) -> Path:
        fields = [f"{field}: {value}" for field, value in (GOOD | changes).items() if value]
        path = tmp_path / "campaign.yaml"
        path.write_text("\n".join([*fields, *lines]), encoding="utf-8")
        return path

    return write


def problem_with(path: Path) -> str:
    with pytest.raises(InputError) as refused:
        load_campaign(path)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_the_example_campaign_compiles_with_the_fields_of_the_example_contacts():
    spec = load_campaign(EXAMPLES / "campaign.yaml")

    assert spec.name == "spring-offer"
    check_fields(compile_templates(spec), ["City", "Plan", "Joined", "Notes"])


def test_templates_come_from_files_beside_the_campaign(campaign, tmp_path: Path):
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "offer.html").write_text("\ufeff<p>Grüße</p>", encoding="utf-8")
    (tmp_path / "offer.txt").write_text("Hi", encoding="utf-8")

    spec = load_campaign(campaign("html: parts/offer.html", "text: offer.txt"))

    assert (spec.html, spec.text) == ("<p>Grüße</p>", "Hi")


def test_a_path_may_be_absolute(tmp_path: Path):
    offer = tmp_path / "offer.j2"
    offer.write_text("Hi", encoding="utf-8")

    spec = CampaignSpec(**GOOD, text=str(offer))

    assert resolve_templates(spec, Path("/nowhere")).text == "Hi"


@pytest.mark.parametrize(
    "template", ["<p>offer.html", "{{ city }}.txt", "Read this:\noffer.txt", "See offer.html today", "Hi"]
)
def test_what_is_not_a_path_is_the_template_itself(template: str, tmp_path: Path):
    spec = CampaignSpec(**GOOD, html=template)

    assert resolve_templates(spec, tmp_path).html == template


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["text: Hi", "subjekt: x"], "campaign.yaml: unknown field 'subjekt'; did you mean 'subject'?"),
        (["text: Hi", "pacing: {rat: 5/s}"], "unknown field 'pacing.rat'; did you mean 'pacing.rate'?"),
        (["text: Hi", "zzz: 1"], "unknown field 'zzz'; known fields: name, channel,"),
        (["text: Hi", "pacing: {rate: fast}"], "campaign.yaml: pacing.rate: 'fast' is not a rate"),
        (["text: Hi", "batch_size: many"], "campaign.yaml: batch_size: "),
        (["text: Hi", "pacing: {rate: 0/s}", "batch_size: 0", "subject_tag: maybe"], "(and 2 more)"),
        ([], "campaign.yaml: a campaign needs html or text"),
        (["html: missing.html"], "missing.html: no such file"),
        (["html: folder.html"], "folder.html: is a folder"),
        (["html: empty.html"], "empty.html: is empty"),
        (["html: latin.html"], "latin.html: line 2 is not UTF-8"),
        (["html: large.html"], "large.html: is larger than 200,000 characters"),
        (['html: "a\\0.html"'], "no such file"),
    ],
)
def test_what_cannot_be_used_is_named(campaign, tmp_path: Path, lines: list[str], expected: str):
    (tmp_path / "folder.html").mkdir()
    (tmp_path / "empty.html").write_text(" \n", encoding="utf-8")
    (tmp_path / "latin.html").write_bytes("<p>\nGrüße".encode("latin-1"))
    (tmp_path / "large.html").write_text("x" * (MAX_TEMPLATE_SIZE + 1), encoding="utf-8")

    assert expected in problem_with(campaign(*lines))


def test_a_misspelt_field_is_named_before_the_field_it_leaves_missing(campaign):
    problem = problem_with(campaign("subjekt: Hi", "text: Hi", subject=""))

    assert problem == "campaign.yaml: unknown field 'subjekt'; did you mean 'subject'? (and 1 more)"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"name: x\n\tsubject: y", "line 2: is not YAML"),
        (b"name: x\nsubject: {{ name }}, hello\n", "put a value that holds {{ }} in quotes"),
        (b"subject: {{ name }}\n", "put a value that holds {{ }} in quotes"),
        (b"name: x\nsubject: \x07", "line 2: is not YAML"),
        (b"- a\n- b", "must hold fields and values"),
        (b"just words", "must hold fields and values"),
        (b"", "is empty"),
        (b"\xff\xfe", "is not UTF-8"),
        (b"a: 2027-99-99", "is not YAML that can be read"),
        (b"a: " + b"[" * 5000, "is not YAML that can be read"),
        (b"a: !!python/object/apply:os.system [id]", "is not YAML"),
        (b"1: 2", "unknown field '1'"),
        (b"name: &a [x]\nsubject: *b", "line 2: is not YAML"),
        (b"# " + b"x" * 700_000, "is larger than"),
    ],
)
def test_a_file_that_is_not_a_campaign_is_refused_in_one_sentence(
    tmp_path: Path, content: bytes, expected: str
):
    path = tmp_path / "campaign.yaml"
    path.write_bytes(content)

    assert expected in problem_with(path)


def test_a_missing_file_and_a_folder_are_told_apart(tmp_path: Path):
    assert "no such file" in problem_with(tmp_path / "campaign.yaml")
    assert "is a folder" in problem_with(tmp_path)
    assert problem_with(tmp_path / ("x" * 300))
