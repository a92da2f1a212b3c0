"""Topics of Amazon SNS that post to the webhook."""

from typing import Annotated

import typer

from messaging.reports import console
from outflow.running import AsJson

topics_app = typer.Typer(help="Topics of Amazon SNS that post to /hooks/sns.", no_args_is_help=True)


@topics_app.command("list")
def topics_list(*, as_json: AsJson = False) -> None:
    """List the topics that post to us or ask to."""
    from messaging.feedback.sns_confirming import list_topics
    from messaging.storage.engine import engine

    topics = list_topics(engine())
    if as_json:
        shown = [topic.model_dump(mode="json") | {"state": topic.state} for topic in topics]
        console.show_json({"topics": shown})
    elif topics:
        for topic in topics:
            console.show(f"{topic.topic}  {topic.state}, asked {topic.asked_at:%Y-%m-%d %H:%M}")
    else:
        console.show("no topic has asked yet: subscribe the https URL of /hooks/sns to one")


@topics_app.command("confirm")
def topics_confirm(
    topic: Annotated[
        str, typer.Argument(metavar="ARN", help="The topic, as `outflow topics list` shows it.")
    ],
    *,
    as_json: AsJson = False,
) -> None:
    """Agree that a topic posts to us: tells Amazon, and takes what the topic posts from then on."""
    from messaging.feedback.sns_confirming import confirm_topic
    from messaging.storage.engine import engine

    confirm_topic(engine(), topic)
    if as_json:
        console.show_json({"topic": topic, "state": "confirmed"})
    else:
        console.show(f"{topic} is confirmed: what it posts is recorded from now on")
