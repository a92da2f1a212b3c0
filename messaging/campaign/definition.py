"""Campaign files: read a campaign.yaml and the templates it names into a CampaignSpec."""

from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from messaging.errors import InputError
from schemas.campaign import MAX_TEMPLATE_SIZE, CampaignSpec
from schemas.problems import first_problem

_SUFFIXES = (".html", ".htm", ".txt", ".j2")
_MAX_FILE_SIZE = 3 * MAX_TEMPLATE_SIZE  # room for both templates inside the YAML


def load_campaign(path: Path) -> CampaignSpec:
    """Read a campaign file, with its templates taken from the files it names.

    Raises:
        InputError: The file, a field or a template cannot be used; the text says which and why.
    """
    values = _parse(_read(path, _MAX_FILE_SIZE), path.name)
    try:
        spec = CampaignSpec.model_validate(values)
    except ValidationError as error:
        raise InputError(f"{path.name}: {first_problem(CampaignSpec, error)}") from None
    return resolve_templates(spec, path.parent)


def resolve_templates(spec: CampaignSpec, folder: Path) -> CampaignSpec:
    """Replace `html` and `text` by the content of the file they name, relative to `folder`.

    Raises:
        InputError: A named file is missing, empty, too large or not UTF-8.
    """
    contents = {
        part: _read(folder / value.strip(), MAX_TEMPLATE_SIZE)
        for part, value in (("html", spec.html), ("text", spec.text))
        if _is_path(value)
    }
    return spec.model_copy(update=contents)


def _is_path(value: str) -> bool:
    """Tell a path from a template: no template worth sending is one line that ends like a file name."""
    value = value.strip()
    return len(value.splitlines()) == 1 and not {"<", "{"} & set(value) and value.lower().endswith(_SUFFIXES)


def _read(path: Path, max_size: int) -> str:
    try:
        if path.is_dir():
            raise InputError(f"{path}: is a folder; name the file itself")
        if not path.is_file():  # neither missing files nor devices and pipes, which have no end
            raise InputError(f"{path}: no such file")
        with path.open("rb") as file:
            content = file.read(4 * max_size + 1)  # no character takes more than four bytes
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    try:
        text = content.decode("utf-8-sig")  # Windows editors write a byte order mark
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(f"{path}: line {line} is not UTF-8; save the file as UTF-8") from None
    if len(text) > max_size:
        raise InputError(f"{path}: is larger than {max_size:,} characters")
    if not text.strip():
        raise InputError(f"{path}: is empty")
    return text


def _parse(text: str, file: str) -> dict[str, Any]:
    try:
        values = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        number = mark.line + 1 if mark else 1
        line = text.splitlines()[number - 1] if mark and number <= len(text.splitlines()) else ""
        hint = "; put a value that holds {{ }} in quotes" if "{{" in line else ""
        raise InputError(f"{file}: line {number}: is not YAML: {error.problem}{hint}") from None
    except yaml.reader.ReaderError as error:
        line_number = text.count("\n", 0, error.position) + 1
        raise InputError(f"{file}: line {line_number}: is not YAML: {error.reason}") from None
    except (ValueError, RecursionError):  # an impossible date; brackets nested without end
        raise InputError(f"{file}: is not YAML that can be read") from None
    if not isinstance(values, dict):
        raise InputError(f"{file}: must hold fields and values, as in `name: spring-offer`")
    return {str(field): value for field, value in values.items()}
