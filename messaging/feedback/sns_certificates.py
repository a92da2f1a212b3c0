"""Whether a post of Amazon SNS is Amazon's: its signature, by a certificate that only Amazon can serve.

Amazon SNS Developer Guide, "Verifying the signatures of Amazon SNS messages". SNS shows no certificates of
those who issued its own, so that it is believed for the place where it lies: a host of Amazon's, by TLS.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from messaging.errors import InputError, MessagingError
from messaging.feedback import amazon_pages
from messaging.feedback.sns_messages import SnsKind, SnsMessage

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

Fetch = Callable[[str], bytes]
"""Returns what lies at a URL; whoever calls it has checked the URL.

Raises:
    OSError: It could not be had.
"""

_MOST = 8  # certificates kept; SNS has one at a time in a region, for about a year
_PATIENCE: Final = 5.0  # seconds to wait until another certificate has come
_FEWEST_BITS = 2048


class Undecided(MessagingError):
    """Whether a post is Amazon's could not be told now."""

    retryable = True


@dataclass(frozen=True, slots=True)
class _Certificate:
    key: "RSAPublicKey"
    since: datetime
    until: datetime


class Certificates:
    """The keys of SNS, fetched one at a time; kept are those that a topic of ours is signed with.

    Anybody may subscribe us to a topic, and Amazon signs that it was asked: such requests leave no key behind
    and wait for each other alone.
    """

    def __init__(self, fetch: Fetch = amazon_pages.fetch) -> None:
        """Know none."""
        self._fetch = fetch
        self._keys: dict[str, _Certificate] = {}
        self._fetching = asyncio.Lock()
        self._fetching_for_strangers = asyncio.Lock()

    async def vouch_for(self, message: SnsMessage) -> bool:
        """Say whether a message is Amazon's, as `read_message` read it.

        Raises:
            Undecided: The certificate cannot be had now.
            InputError: The packages for it are not installed.
        """
        if known := self._keys.get(message.certificate_url):
            return _is_good(message, known)
        may_keep = message.kind is not SnsKind.SUBSCRIPTION
        fetching = self._fetching if may_keep else self._fetching_for_strangers
        # One at a time: strangers can make up names of certificates faster than Amazon refuses them.
        try:
            async with asyncio.timeout(_PATIENCE):
                await fetching.acquire()
        except TimeoutError:
            raise Undecided("too many certificates of Amazon SNS are asked for") from None
        try:
            found = self._keys.get(message.certificate_url) or await self._look(message.certificate_url)
        finally:
            fetching.release()
        if found is None or not _is_good(message, found):
            return False
        if may_keep:
            self._keep(message.certificate_url, found)
        return True

    async def _look(self, url: str) -> _Certificate | None:
        try:
            return await asyncio.to_thread(_read, await asyncio.to_thread(self._fetch, url))
        except amazon_pages.Absent:
            return None
        except OSError as error:
            raise Undecided(f"a certificate of Amazon SNS cannot be had ({type(error).__name__})") from None

    def _keep(self, url: str, found: _Certificate) -> None:
        if url not in self._keys and len(self._keys) >= _MOST:
            del self._keys[next(iter(self._keys))]
        self._keys[url] = found


def _read(pem: bytes) -> _Certificate | None:
    """Read a certificate; None: it is none that we take."""
    try:
        from cryptography import x509  # noqa: PLC0415 - of an extra, as is the next
        from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey  # noqa: PLC0415
    except ModuleNotFoundError:
        raise InputError("signatures of Amazon SNS need more packages: pip install 'outflow[ses]'") from None
    try:
        found = x509.load_pem_x509_certificate(pem)
        key = found.public_key()
    except ValueError:
        return None
    if not isinstance(key, RSAPublicKey) or key.key_size < _FEWEST_BITS:
        return None
    return _Certificate(key, found.not_valid_before_utc, found.not_valid_after_utc)


def _is_good(message: SnsMessage, certificate: _Certificate) -> bool:
    is_valid = certificate.since <= datetime.now(UTC) <= certificate.until
    return is_valid and _is_signed(message, certificate.key)


def _is_signed(message: SnsMessage, key: "RSAPublicKey") -> bool:
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 - of an extra, as are the next
    from cryptography.hazmat.primitives import hashes  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15  # noqa: PLC0415

    digest = hashes.SHA256() if message.version == "2" else hashes.SHA1()  # noqa: S303 - Amazon's version 1
    try:
        key.verify(message.signature, message.signed, PKCS1v15(), digest)
    except InvalidSignature:
        return False
    return True
