"""A WhatsApp message template, as Meta approved it, and what of it each recipient gets."""

import re

from pydantic import Field, field_validator

from schemas.base import OptionalText, Schema

MOST_BUTTONS = 10
_NAME = re.compile(r"[a-z][a-z0-9_]{0,59}")


class WhatsAppTemplate(Schema):
    """One approved template in one language, with a merge template for each of its parameters."""

    name: OptionalText = Field(
        default="",
        description="Name of the approved template, as WhatsApp Manager shows it. Empty: no template.",
        examples=["spring_offer"],
        pattern=r"^([a-z0-9_]{1,512})?$",
    )
    language: str = Field(
        default="en",
        description="Language code that the template was approved in: en, en_GB, pt_BR.",
        pattern=r"^[a-z]{2,3}(_[A-Za-z]{2,4})?$",
    )
    header: OptionalText = Field(
        default="",
        description="The header's one text parameter, or the https link of its image, video or document, "
        "with image:, video: or document: before a link whose end does not show which. Where the parameters "
        "of the body have names, the text begins with its own, as in name: {{ name }}.",
        examples=["{{ name }}"],
        max_length=2000,
    )
    body: dict[str, str] = Field(
        default_factory=dict,
        description='The parameters by number or name: {"1": "{{ name }}"} or {"city": "{{ city }}"}.',
        examples=[{"1": "{{ name }}", "2": "{{ city }}"}],
    )
    buttons: list[str] = Field(
        default_factory=list,
        description="What each button gets, in order: the end of its link, or its code; copy_code: stands "
        "before a coupon to copy. Empty: nothing.",
        examples=[['{{ contact["Coupon"] }}']],
        max_length=MOST_BUTTONS,
    )

    @field_validator("body")
    @classmethod
    def _has_names(cls, value: dict[str, str]) -> dict[str, str]:
        numbers = [str(number) for number in range(1, len(value) + 1)]
        if sorted(value, key=lambda name: (len(name), name)) == numbers:
            return {number: value[number] for number in numbers}
        if not all(_NAME.fullmatch(name) for name in value):
            raise ValueError(
                "parameters are called 1, 2, 3 and so on, or all by names of small letters, digits and _"
            )
        return value
