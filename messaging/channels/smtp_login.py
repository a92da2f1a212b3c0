"""Opening a connection to an SMTP server: TCP, TLS and login, by aiosmtplib."""

import asyncio
import functools
import ipaddress
import os
import re
import socket
import ssl
from typing import cast

import aiosmtplib

from messaging.channels.smtp_connection import NOT_SMTP, Connection
from messaging.channels.smtp_replies import Phase, Reply, failure, judge
from messaging.channels.smtp_settings import SmtpSettings
from messaging.errors import AccountError, MessagingError, NotSent

# One try of the password, with the first that the server offers: each further try counts towards a lock-out.
_AUTH_METHODS = ("plain", "login", "cram-md5")
_METHOD_UNKNOWN = 504
_EHLO_UNKNOWN = {500, 502}


def tls_context() -> ssl.SSLContext:
    """Return the default context: verified certificates and host names (SSL_CERT_FILE adds a private CA)."""
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


async def connect(settings: SmtpSettings, tls: ssl.SSLContext | None) -> Connection:
    """Open a connection, with TLS by this context and logged in as the settings ask.

    Raises:
        NotSent: The server is away or busy; calling again is safe.
        AccountError: The server cannot be trusted, or does not let this account in.
    """
    if settings.username is not None and settings.security == "none" and not _is_loopback(settings.host):
        raise AccountError(f"{settings.where}: a password is never sent without TLS; set security.")
    # Before the server is on the line, because a token may have to be fetched.
    token = await settings.access_token() if settings.access_token is not None else None
    client = aiosmtplib.SMTP(
        hostname=settings.host,
        port=settings.port,
        timeout=None,  # ours, below: aiosmtplib's wait_for loses a cancellation now and then on Python 3.11
        use_tls=settings.security == "tls",
        start_tls=False,  # ours to do: aiosmtplib's own errors do not tell why
        tls_context=tls,
        local_hostname=await asyncio.to_thread(_ehlo_name),
    )
    phase = Phase.GREETING
    taken = False
    try:
        async with asyncio.timeout(settings.connect_timeout):
            greeting = await client.connect()
        async with asyncio.timeout(settings.command_timeout):
            phase = Phase.EHLO
            await _hello(client)
            if settings.security == "starttls":
                phase = Phase.STARTTLS
                if not client.supports_extension("starttls"):
                    raise AccountError(
                        f"{settings.where} does not offer STARTTLS; nothing was sent without it"
                    )
                await client.starttls()
                await _hello(client)
            if settings.username is not None:
                phase = Phase.AUTH
                await _log_in(client, settings, settings.username, token)
        if client.transport is None:
            raise aiosmtplib.SMTPServerDisconnected("")
        connection = Connection(
            cast("asyncio.Transport", client.transport),
            dict(client.esmtp_extensions),
            (greeting.message.split() or [""])[0],
        )
        taken = True
    except (aiosmtplib.SMTPException, OSError) as error:
        # Without its cause: the server's words in it may name the user, and tracebacks are kept.
        raise _explained(settings.where, phase, error) from None
    else:
        return connection
    finally:
        if not taken:
            client.close()


async def _hello(client: aiosmtplib.SMTP) -> None:
    try:
        await client.ehlo()
    except aiosmtplib.SMTPHeloError as refusal:
        if refusal.code not in _EHLO_UNKNOWN:
            raise
        await client.helo()


async def _log_in(client: aiosmtplib.SMTP, settings: SmtpSettings, username: str, token: str | None) -> None:
    if token is not None:
        if "xoauth2" not in client.server_auth_methods:
            raise AccountError(f"{settings.where} does not offer to log in with an access token (XOAUTH2)")
        # Answers the 334 of a refusal, which holds the reason, with an empty line, as Google's page asks.
        await client.auth_xoauth2(username, token)
        return
    offered = [method for method in _AUTH_METHODS if method in client.server_auth_methods]
    if not offered:
        raise AccountError(f"{settings.where} does not offer to log in with a password")
    for method in offered:
        try:
            await getattr(client, f"auth_{method.replace('-', '')}")(username, settings.password)
        except aiosmtplib.SMTPAuthenticationError as refusal:
            if refusal.code != _METHOD_UNKNOWN or method == offered[-1]:
                raise
        else:
            return


def _explained(where: str, phase: Phase, error: Exception) -> MessagingError:
    """Return our error for one of aiosmtplib's or the socket's."""
    cause = error.__cause__
    if isinstance(error, aiosmtplib.SMTPConnectError) and isinstance(cause, OSError):
        error = cause
    match error:
        case aiosmtplib.SMTPResponseException(code=code, message=said) if code > 0:
            reply = Reply(code, [said.encode("utf-8", "replace")])
            return failure(judge(phase, reply), where, phase, reply)
        case aiosmtplib.SMTPResponseException():
            why = NOT_SMTP
        case TimeoutError():
            why = "no answer in time"
        case ssl.SSLCertVerificationError():
            return AccountError(f"{where}: the server's certificate was refused: {error.verify_message}")
        case ssl.SSLEOFError() | ssl.SSLZeroReturnError() | aiosmtplib.SMTPException():
            why = "the server closed the connection"
        case ssl.SSLError():
            return AccountError(f"{where}: no TLS as we ask for it ({error.reason})")
        case OSError(errno=int(number)):
            why = os.strerror(number)
        case _:
            why = str(error)
    return NotSent(f"{where}, {phase}: {why}")


@functools.cache
def _ehlo_name() -> str:
    """Return our full host name, or an address literal (RFC 5321 4.1.1.1), asking the resolver once."""
    name = socket.getfqdn()
    return name if "." in name and name.isascii() and not re.search(r"\s", name) else "[127.0.0.1]"


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
