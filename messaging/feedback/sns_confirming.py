"""An operator agrees that a topic of Amazon SNS posts to us."""

from sqlalchemy import Engine

from messaging.errors import InputError, NotSent
from messaging.feedback import amazon_pages
from messaging.feedback.sns_certificates import Fetch
from messaging.feedback.sns_messages import is_subscribe_url
from messaging.storage import sns_topics
from messaging.storage.failing import database_errors
from schemas.topics import Topic


def list_topics(engine: Engine) -> list[Topic]:
    """Return the topics that post to us or want to, by name."""
    with database_errors(), engine.begin() as connection:
        return sns_topics.list_topics(connection)


def confirm_topic(engine: Engine, topic: str, fetch: Fetch = amazon_pages.fetch) -> None:
    """Tell Amazon that a topic may post to us, and listen to it from now on; again is safe.

    Raises:
        InputError: The topic has not asked, or Amazon does not know its request any more.
        NotSent: Amazon did not answer; calling again is safe.
    """
    # Listened to before Amazon is told: what it posts right after that would be refused, and is not repeated.
    with database_errors(), engine.begin() as connection:
        found = sns_topics.confirm(connection, topic)
    if found is None:
        raise InputError(f"{topic} has not asked to post here: subscribe the https URL of /hooks/sns to it")
    url, before = found
    try:
        if not is_subscribe_url(url, topic):  # what was kept by an older version, or changed by somebody
            raise amazon_pages.Absent
        fetch(url)
    except OSError as error:
        with database_errors(), engine.begin() as connection:
            sns_topics.take_back(connection, topic, before)
        if isinstance(error, amazon_pages.Absent):
            raise InputError(
                f"Amazon refuses the request of {topic}, which is good for two days: subscribe it once more"
            ) from None
        raise NotSent(f"Amazon did not answer ({type(error).__name__}): try again") from None
