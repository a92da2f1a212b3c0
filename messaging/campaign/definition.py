"""Campaign files: read a campaign.yaml, the templates and the attachments it names."""

import unicodedata
from mimetypes import MimeTypes
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from messaging.errors import InputError
from messaging.storage.campaigns import CampaignFile
from messaging.yaml_file import read_text, read_yaml
from schemas.accounts import channel_of
from schemas.campaign import MAX_ATTACHED_SIZE, MAX_TEMPLATE_SIZE, CampaignSpec
from schemas.problems import first_problem
from schemas.schedule import ScheduleSpec
from schemas.states import Channel

S = TypeVar("S", bound=CampaignSpec)
_SUFFIXES = (".html", ".htm", ".txt", ".j2")
_MAX_FILE_SIZE = 3 * MAX_TEMPLATE_SIZE  # room for both templates inside the YAML
_LONGEST_NAME = 200  # bytes; file systems take 255
# Unseen characters, among them those that turn the direction of text around: `annexe\u202efdp.exe` is shown
# as `annexeexe.pdf`.  A slash or backslash is a folder to somebody's computer.
_UNFIT_CATEGORIES = {"Cc", "Cf", "Cs", "Zl", "Zp"}
_UNFIT = set('\\/:*?"<>|')
_OPAQUE = "application/octet-stream"
_TYPES = MimeTypes()  # without this machine's own: the same file has the same type wherever it is read
_OFFICE = "application/vnd.openxmlformats-officedocument"
for _suffix, _kind in {  # registered at IANA, and not known to Python 3.11
    ".docx": f"{_OFFICE}.wordprocessingml.document",
    ".xlsx": f"{_OFFICE}.spreadsheetml.sheet",
    ".pptx": f"{_OFFICE}.presentationml.presentation",
    ".odt": "application/vnd.oasis.opendocument.text",
    ".ods": "application/vnd.oasis.opendocument.spreadsheet",
    ".odp": "application/vnd.oasis.opendocument.presentation",
    ".ics": "text/calendar",
}.items():
    _TYPES.add_type(_kind, _suffix)


def load_campaign(path: Path) -> CampaignSpec:
    """Read a campaign file, with its templates taken from the files it names.

    Raises:
        InputError: The file, a field or a template cannot be used; the text says which and why.
    """
    values = _values(path)
    if "schedule" in values:
        raise InputError(f"{path.name} has a schedule: outflow schedule add {path.name} keeps it")
    return _read(path, values, CampaignSpec)


def load_schedule(path: Path) -> ScheduleSpec:
    """Read the file of a recurring campaign, with its templates taken from the files it names.

    Raises:
        InputError: The file, a field or a template cannot be used; the text says which and why.
    """
    return _read(path, _values(path), ScheduleSpec)


def _values(path: Path) -> dict[str, Any]:
    values = read_yaml(path, _MAX_FILE_SIZE)
    _name_parameters(values)
    return values


def _read(path: Path, values: dict[str, Any], model: type[S]) -> S:
    try:
        spec = model.model_validate(values)
    except ValidationError as error:
        raise InputError(f"{path.name}: {first_problem(model, error)}") from None
    return resolve_templates(spec, path.parent)


def _name_parameters(values: dict[str, Any]) -> None:
    """Make the numbers of a WhatsApp template's parameters the names that a form gives them: 1 is "1"."""
    template = values.get("template")
    if isinstance(template, dict) and isinstance(body := template.get("body"), dict):
        named = {str(name) if type(name) is int else name: source for name, source in body.items()}
        values["template"] = {**template, "body": named}


def resolve_templates(spec: S, folder: Path) -> S:
    """Replace `html` and `text` by the content of the file they name, relative to `folder`.

    The attachments stay paths, made absolute: their contents are no parameters of a flow run.

    Raises:
        InputError: A named template is missing, empty, too large or not UTF-8.
    """
    contents = {
        part: read_text(folder / value.strip(), MAX_TEMPLATE_SIZE)
        for part, value in (("html", spec.html), ("text", spec.text))
        if _is_path(value)
    }
    paths = [str((folder / path.strip()).absolute()) for path in spec.attachments]
    return spec.model_copy(update={**contents, "attachments": paths})


def read_attachments(spec: CampaignSpec) -> list[CampaignFile]:
    """Read the files that the campaign attaches.

    Raises:
        InputError: One is missing, empty or has a name that must not be sent, two have the same name, or they
            are too large together; or no account of the campaign sends email.
    """
    if spec.attachments and Channel.EMAIL not in map(channel_of, spec.accounts):
        raise InputError(
            "attachments go with emails alone: give a WhatsApp template the link of a document as its header"
        )
    files: list[CampaignFile] = []
    left = MAX_ATTACHED_SIZE
    for path in map(Path, spec.attachments):
        name = _file_name(path)
        content = _content(path, left)
        left -= len(content)
        if name in {file.name for file in files}:
            raise InputError(f"two attachments are called {name}: rename one")
        files.append(CampaignFile(name, _content_type(name), content))
    return files


def _file_name(path: Path) -> str:
    name = unicodedata.normalize("NFC", path.name)
    if any(unicodedata.category(character) in _UNFIT_CATEGORIES for character in name):
        raise InputError(f"the attachment {name!a} has unseen characters in its name: rename it")
    if unfit := sorted(set(name) & _UNFIT):
        raise InputError(f"the attachment {name} has {' '.join(unfit)} in its name: rename it")
    if len(name.encode()) > _LONGEST_NAME:
        raise InputError(
            f"the attachment {name[:40]}… has a name of more than {_LONGEST_NAME} bytes: rename it"
        )
    return name


def _content(path: Path, most: int) -> bytes:
    try:
        if path.is_dir():
            raise InputError(f"{path}: is a folder; name the file itself")
        if not path.is_file():  # neither missing files nor devices and pipes, which have no end
            raise InputError(f"{path}: no such file")
        with path.open("rb") as file:
            content = file.read(most + 1)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    if len(content) > most:
        raise InputError(
            f"{path}: the attachments have more than {MAX_ATTACHED_SIZE // 1_000_000} MB together"
        )
    if not content:
        raise InputError(f"{path}: is empty")
    return content


def _content_type(name: str) -> str:
    kind, encoding = _TYPES.guess_type(name)
    if encoding == "gzip":
        return "application/gzip"
    # What holds other messages may not be in base64 (RFC 2046, sections 5.1 and 5.2.1).
    if kind is None or encoding or kind.startswith(("message/", "multipart/")):
        return _OPAQUE
    return kind


def _is_path(value: str) -> bool:
    """Tell a path from a template: no template worth sending is one line that ends like a file name."""
    value = value.strip()
    return len(value.splitlines()) == 1 and not {"<", "{"} & set(value) and value.lower().endswith(_SUFFIXES)
