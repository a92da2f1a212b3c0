"""Campaign files: read a campaign.yaml and the templates it names into a CampaignSpec."""

from pathlib import Path

from pydantic import ValidationError

from messaging.errors import InputError
from messaging.yaml_file import read_text, read_yaml
from schemas.campaign import MAX_TEMPLATE_SIZE, CampaignSpec
from schemas.problems import first_problem

_SUFFIXES = (".html", ".htm", ".txt", ".j2")
_MAX_FILE_SIZE = 3 * MAX_TEMPLATE_SIZE  # room for both templates inside the YAML


def load_campaign(path: Path) -> CampaignSpec:
    """Read a campaign file, with its templates taken from the files it names.

    Raises:
        InputError: The file, a field or a template cannot be used; the text says which and why.
    """
    values = read_yaml(path, _MAX_FILE_SIZE)
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
        part: read_text(folder / value.strip(), MAX_TEMPLATE_SIZE)
        for part, value in (("html", spec.html), ("text", spec.text))
        if _is_path(value)
    }
    return spec.model_copy(update=contents)


def _is_path(value: str) -> bool:
    """Tell a path from a template: no template worth sending is one line that ends like a file name."""
    value = value.strip()
    return len(value.splitlines()) == 1 and not {"<", "{"} & set(value) and value.lower().endswith(_SUFFIXES)
