"""A recurring campaign's definition: what a campaign says, and the rule of when it is sent again."""

from datetime import datetime
from typing import Annotated, Any, Final
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, model_validator
from pydantic.json_schema import SkipJsonSchema

from schemas.base import OptionalText, Schema
from schemas.campaign import CampaignSpec
from schemas.durations import SECONDS, seconds_of
from schemas.states import ScheduleState
from schemas.times import LocalTime, zone_named

SHORTEST_MINUTES: Final = 15
"""Between two editions; a campaign is no drip of messages."""
_FIRST_ON_EARTH: Final = ZoneInfo("Etc/GMT-14")  # its sign is that of POSIX: UTC+14
_LONGEST_INTERVAL: Final = 366 * SECONDS["d"]


def _interval(value: str) -> str:
    value = value.strip()
    if not value:
        return value
    seconds = seconds_of(value)
    if seconds % SECONDS["m"]:
        raise ValueError(f"{value!r} is no number of whole minutes")
    if not SHORTEST_MINUTES * SECONDS["m"] <= seconds <= _LONGEST_INTERVAL:
        raise ValueError(f"interval is from {SHORTEST_MINUTES}m to 366d")
    return value


class Rule(Schema):
    """When a campaign is sent again: one of cron, interval and rrule, in the campaign's time zone."""

    cron: OptionalText = Field(
        default="",
        description="Minute, hour, day of the month, month, day of the week: 0 9 * * 1 is Mondays at nine.",
        examples=["0 9 * * 1"],
        max_length=200,
    )
    interval: Annotated[OptionalText, AfterValidator(_interval)] = Field(
        default="",
        title="Or: interval",
        description="Always so long after starts_at, by the clock on the wall: 90m, 6h, 1d, 7d.",
        examples=["7d"],
    )
    rrule: OptionalText = Field(
        default="",
        title="Or: rrule",
        description="A rule of iCalendar (RFC 5545), counted from starts_at: FREQ=MONTHLY;BYDAY=-1FR.",
        examples=["FREQ=MONTHLY;BYDAY=-1FR"],
        max_length=1000,
    )
    starts_at: LocalTime = Field(
        default="",
        title="Starts at",
        description="Local time of the first edition, which interval and rrule need; with cron, no edition "
        "comes before it.",
        examples=["2027-03-20T09:00"],
    )

    @model_validator(mode="after")
    def _is_one_rule(self) -> "Rule":
        chosen = [name for name in ("cron", "interval", "rrule") if getattr(self, name).strip()]
        if len(chosen) != 1:
            raise ValueError("schedule needs one of cron, interval and rrule, and no more than one")
        if not self.cron.strip() and not self.starts_at:
            raise ValueError(f"schedule.{chosen[0]} needs starts_at, the local time of the first edition")
        return self

    def __str__(self) -> str:
        """Return the rule as a person reads it."""
        if self.cron.strip():
            since = f", not before {self.starts_at}" if self.starts_at else ""
            return f"cron {self.cron.strip()}{since}"
        if self.interval:
            return f"every {self.interval} from {self.starts_at}"
        return f"{self.rrule.strip()} from {self.starts_at}"


def _no_time(value: object) -> object:
    if value:
        raise ValueError("each edition is sent at its own time: leave send_at out, and write schedule")
    return ""


def _schedule_before_the_rest(schema: dict[str, Any]) -> None:
    """Show the rule right below the name in a form."""
    fields = schema.get("properties", {})
    schema["properties"] = {name: fields[name] for name in ("name", "schedule")} | fields


class ScheduleSpec(CampaignSpec):
    """A campaign that is sent again and again, to its audience as it is each time."""

    model_config = ConfigDict(json_schema_extra=_schedule_before_the_rest)

    name: str = Field(
        description="Unique name of the schedule. Each edition is a campaign named after it and its time.",
        examples=["newsletter"],
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._ -]{0,79}$",
    )
    schedule: Rule = Field(description="When it is sent: one of cron, interval and rrule.")
    send_at: SkipJsonSchema[Annotated[str, BeforeValidator(_no_time)]] = Field(
        default="", description="Never given: each edition is sent at a time of the schedule."
    )

    @model_validator(mode="after")
    def _has_times(self) -> "ScheduleSpec":
        """Let each edition have its time, which `recipient_local` then is of."""
        return self

    @property
    def zone(self) -> ZoneInfo:
        """The zone that the rule is worked out in.

        At recipients' own times an edition starts when the first clock on Earth shows its time.
        """
        return _FIRST_ON_EARTH if self.recipient_local else zone_named(self.time_zone)

    def edition(self, name: str, send_at: str) -> CampaignSpec:
        """Return the campaign of one local time."""
        values = self.model_dump(exclude={"schedule"})
        return CampaignSpec.model_validate({**values, "name": name, "send_at": send_at})


class ScheduleStatus(Schema):
    """A schedule, as it stands."""

    schedule: str
    state: ScheduleState
    reason: str = Field(default="", description="Why it is paused, or ended.")
    rule: str = Field(description="Empty, when this version cannot read it.")
    time_zone: str
    next: list[datetime] = Field(description="The next times, at most three.")
    editions: int = Field(description="Campaigns made of it so far, skipped ones included.")
    last_edition: str = Field(default="", description="Name of the newest of them.")
    changed: bool = Field(default=False, description="Whether this command changed anything.")
    said: str = Field(default="", description="What was done, in a sentence.")


class DispatchReport(Schema):
    """What one look at what is due has done: names of campaigns."""

    editions: list[str] = Field(default_factory=list, description="Made now, of schedules.")
    skipped: list[str] = Field(
        default_factory=list, description="Editions that are not sent, each with an alert."
    )
    late: list[str] = Field(default_factory=list, description="Paused now, as their time is long over.")
    started: list[str] = Field(default_factory=list, description="Due: a flow run was started for each.")
