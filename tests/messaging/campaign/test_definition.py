"""Campaign files: what is read, and what is said about what cannot be."""

import json
from pathlib import Path
from uuid import UUID

import pytest

from messaging.campaign.definition import load_campaign, read_attachments, resolve_templates
from messaging.campaign.links import NOBODYS_KEY
from messaging.campaign.renderers import renderer_for
from messaging.campaign.rendering import Letterhead, Recipient
from messaging.campaign.templates import check_fields, compile_templates
from messaging.errors import InputError
from schemas.campaign import MAX_ATTACHED_SIZE, MAX_TEMPLATE_SIZE, CampaignSpec

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


@pytest.mark.parametrize("name", ["template", "text"])
def test_the_examples_for_whatsapp_fit_the_example_contacts_too(name: str):
    spec = load_campaign(EXAMPLES / "whatsapp" / f"{name}.yaml")
    to = Recipient(UUID(int=1), "+447400000001", None, None, {})

    check_fields(compile_templates(spec), ["City", "Plan", "Joined", "Notes"])
    renderer = renderer_for(spec.account, spec, 1, Letterhead("", NOBODYS_KEY))
    assert json.loads(renderer.render(to).content)["type"] == name


def test_templates_come_from_files_beside_the_campaign(campaign, tmp_path: Path):
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "offer.html").write_text("\ufeff<p>Grüße</p>", encoding="utf-8")
    (tmp_path / "offer.txt").write_text("Hi", encoding="utf-8")

    spec = load_campaign(campaign("html: parts/offer.html", "text: offer.txt"))

    assert (spec.html, spec.text) == ("<p>Grüße</p>", "Hi")


def test_attachments_that_no_message_would_carry_are_refused(tmp_path: Path):
    (tmp_path / "terms.pdf").write_bytes(b"%PDF-1.7")
    spec = CampaignSpec(
        **(GOOD | {"account": "whatsapp-web-account/main", "channel": "whatsapp", "text": "Hi"}),
        attachments=[str(tmp_path / "terms.pdf")],
    )

    with pytest.raises(InputError, match="attachments go with emails alone"):
        read_attachments(spec)
    assert read_attachments(spec.model_copy(update={"fallback": ["smtp-account/main"]}))


def test_the_parameters_of_a_whatsapp_template_may_be_numbered_as_yaml_numbers(campaign):
    path = campaign(
        "channel: whatsapp",
        "template:",
        "  name: spring_offer",
        "  header: terms.txt",
        "  body: {2: '{{ city }}', 1: '{{ name }}'}",
        account="whatsapp-cloud-account/main",
        subject="",
    )

    spec = load_campaign(path)

    assert list(spec.template.body.items()) == [("1", "{{ name }}"), ("2", "{{ city }}")]
    assert spec.template.header == "terms.txt"  # never a path


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
        ([], "campaign.yaml: an email needs html or text"),
        (["text: Hi", "template: {body: [Hi]}"], "template.body: "),
        (["text: Hi", "template: Hi"], "template: "),
        (["text: Hi", "template: {body: {1.5: Hi}}"], "template.body: "),
        (["text: Hi", "template: {body: {2: Hi}}"], "template.body: parameters are called 1, 2, 3"),
        (["html: missing.html"], "missing.html: no such file"),
        (["html: folder.html"], "folder.html: is a folder"),
        (["html: empty.html"], "empty.html: is empty"),
        (["html: latin.html"], "latin.html: line 2 is not UTF-8"),
        (["html: large.html"], "large.html: is larger than 200,000 characters"),
        (['html: "a\\0.html"'], "no such file"),
        (["text: Hi", "not_after: later"], "not_after: 'later' is not a length of time"),
        (["text: Hi", "not_after: 0h"], "not_after is longer than nothing"),
        (["text: Hi", "not_after: 400d"], "not_after is longer than nothing and at most 366d"),
        (["text: Hi", "attachments: terms.pdf"], "attachments: "),
        (["text: Hi", f"attachments: [{', '.join(['a.pdf'] * 11)}]"], "attachments: "),
    ],
)
def test_what_cannot_be_used_is_named(campaign, tmp_path: Path, lines: list[str], expected: str):
    (tmp_path / "folder.html").mkdir()
    (tmp_path / "empty.html").write_text(" \n", encoding="utf-8")
    (tmp_path / "latin.html").write_bytes("<p>\nGrüße".encode("latin-1"))
    (tmp_path / "large.html").write_text("x" * (MAX_TEMPLATE_SIZE + 1), encoding="utf-8")

    assert expected in problem_with(campaign(*lines))


def test_a_misspelt_field_is_named_before_the_field_it_leaves_missing(campaign):
    problem = problem_with(campaign("acount: smtp-account/demo", "text: Hi", account=""))

    assert problem == "campaign.yaml: unknown field 'acount'; did you mean 'account'? (and 1 more)"


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


@pytest.fixture
def attach(tmp_path: Path):
    """Make a campaign that attaches these files, written with this content."""

    def made(*names: str, content: bytes = b"%PDF-1.7") -> CampaignSpec:
        for name in names:
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_bytes(content)
        return resolve_templates(CampaignSpec(**GOOD, text="Hi", attachments=list(names)), tmp_path)

    return made


def test_attachments_come_from_files_beside_the_campaign_and_stay_paths_until_they_are_read(
    campaign, tmp_path: Path
):
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "Größen.pdf").write_bytes(b"%PDF-1.7\x00")
    (tmp_path / "prices.csv.gz").write_bytes(b"\x1f\x8b")

    spec = load_campaign(campaign("text: Hi", "attachments: [parts/Größen.pdf, prices.csv.gz]"))

    assert spec.attachments == [str(tmp_path / "parts" / "Größen.pdf"), str(tmp_path / "prices.csv.gz")]
    assert read_attachments(spec) == [
        ("Größen.pdf", "application/pdf", b"%PDF-1.7\x00"),
        ("prices.csv.gz", "application/gzip", b"\x1f\x8b"),
    ]


def test_a_name_is_one_however_its_accents_are_stored(attach):
    decomposed, composed = "Gro\u0308\u00dfe.pdf", "Gr\u00f6\u00dfe.pdf"

    assert [file.name for file in read_attachments(attach(decomposed))] == [composed]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("terms.PDF", "application/pdf"),
        ("photo.jpeg", "image/jpeg"),
        ("notes.txt", "text/plain"),
        ("invitation.ics", "text/calendar"),
        ("forwarded.eml", "application/octet-stream"),  # a message may not be in base64
        ("no-ending", "application/octet-stream"),
        ("backup.tar.xz", "application/octet-stream"),
    ],
)
def test_the_type_follows_from_the_name(attach, name: str, kind: str):
    assert [file.content_type for file in read_attachments(attach(name))] == [kind]


@pytest.mark.parametrize(
    "name",
    [
        "annexe\u202efdp.exe",
        "two\nlines.pdf",
        "bell\x07.pdf",
        "zero\u200bwidth.pdf",
        "back\\slash.pdf",
        'a"b.pdf',
    ],
    ids=ascii,
)
def test_a_name_that_would_deceive_or_break_is_refused(attach, name: str):
    with pytest.raises(InputError, match="in its name: rename it") as refused:
        read_attachments(attach(name))

    assert str(refused.value).isprintable()


def test_attachments_that_cannot_be_sent_are_named(attach, tmp_path: Path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "empty.pdf").touch()
    spec = attach("a.pdf", "parts/a.pdf")
    for paths, sentence in (
        ([tmp_path / "missing.pdf"], "missing.pdf: no such file"),
        ([tmp_path / "folder"], "folder: is a folder"),
        ([tmp_path / "empty.pdf"], "empty.pdf: is empty"),
        (["/dev/zero"], "/dev/zero: no such file"),
        (spec.attachments, "two attachments are called a.pdf"),
    ):
        with pytest.raises(InputError, match=sentence):
            read_attachments(spec.model_copy(update={"attachments": [str(path) for path in paths]}))


def test_attachments_have_ten_megabytes_in_all(attach):
    half = b"x" * (MAX_ATTACHED_SIZE // 2)
    assert len(read_attachments(attach("a.pdf", "b.pdf", content=half))) == 2

    with pytest.raises(InputError, match=r"b\.pdf: the attachments have more than 10 MB together"):
        read_attachments(attach("a.pdf", "b.pdf", content=half + b"x"))
