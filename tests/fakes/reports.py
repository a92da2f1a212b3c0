"""What mail systems send back, made around messages of ours (RFC 3464, RFC 5965, RFC 3834)."""

from email.message import EmailMessage
from email.policy import SMTP

UNKNOWN_USER = "550 5.1.1 <{}>: Recipient address rejected: User unknown in virtual mailbox table"
FULL = "452 4.2.2 <{}> The email account that you tried to reach is over quota"
SPAM = "554 5.7.1 <{}>: message refused, it looks like spam"


def message(recipient: str, token: str = "", message_id: str = "", campaign_id: int = 0) -> bytes:
    """Return a message as ours look."""
    sent = EmailMessage(policy=SMTP)
    sent["From"] = "Shop <news@shop.example.org>"
    sent["To"] = recipient
    sent["Subject"] = "Our spring offer" + (f" [CID:{campaign_id}]" if campaign_id else "")
    if message_id:
        sent["Message-ID"] = message_id
    if token:
        sent["List-Unsubscribe"] = f"<https://shop.example.org/u/{token}>"
    sent.set_content("Hello,\nhere is our offer.\n")
    return sent.as_bytes()


def dsn(
    recipient: str,
    sent: bytes,
    diagnostic: str = UNKNOWN_USER,
    *,
    action: str = "failed",
    to: str = "news@shop.example.org",
    envelope_id: str = "",
    only_headers: bool = True,
) -> bytes:
    """Return a report of a delivery that failed (RFC 3464), as Postfix writes it."""
    said = diagnostic.format(recipient)
    status = next(word for word in said.split() if word.count(".") == 2)
    words = (
        f"This is the mail system at host mx.example.net.\n\nI'm sorry to have to inform you that your "
        f"message could not be delivered.\n\n<{recipient}>: host mx.example.net said: {said}\n"
    )
    envelope = f"Original-Envelope-Id: {envelope_id}\n" if envelope_id else ""
    machine = (
        f"Reporting-MTA: dns; mx.example.net\n{envelope}\nFinal-Recipient: rfc822; {recipient}\n"
        f"Action: {action}\nStatus: {status}\nRemote-MTA: dns; mx.example.net\n"
        f"Diagnostic-Code: smtp; {said}\n"
    )
    return _report("delivery-status", to, words, machine, sent, only_headers=only_headers)


def complaint(recipient: str, sent: bytes, to: str = "news@shop.example.org") -> bytes:
    """Return a report that somebody pressed "this is spam" (RFC 5965)."""
    machine = (
        f"Feedback-Type: abuse\nUser-Agent: SomeGenerator/1.0\nVersion: 1\nOriginal-Rcpt-To: <{recipient}>\n"
    )
    return _report(
        "feedback-report", to, "This is an email abuse report.\n", machine, sent, only_headers=False
    )


def out_of_office(sender: str, answered: str = "") -> bytes:
    """Return an automatic answer (RFC 3834)."""
    answer = EmailMessage(policy=SMTP)
    answer["From"], answer["To"] = sender, "news@shop.example.org"
    answer["Subject"] = "Out of office: Our spring offer"
    answer["Auto-Submitted"] = "auto-replied"
    if answered:
        answer["In-Reply-To"] = answered
    answer.set_content("I am on holiday until Monday.\n")
    return answer.as_bytes()


def ordinary(subject: str = "Re: Our spring offer", body: str = "Thank you!\n") -> bytes:
    """Return a mail that a person wrote."""
    mail = EmailMessage(policy=SMTP)
    mail["From"], mail["To"], mail["Subject"] = "ada@example.org", "news@shop.example.org", subject
    mail.set_content(body)
    return mail.as_bytes()


def _report(kind: str, to: str, words: str, machine: str, sent: bytes, *, only_headers: bool) -> bytes:
    returned = sent.replace(b"\r\n", b"\n")
    if only_headers:
        returned = returned.partition(b"\n\n")[0] + b"\n"
    returned_kind = "text/rfc822-headers" if only_headers else "message/rfc822"
    head = (
        f"From: MAILER-DAEMON@mx.example.net (Mail Delivery System)\nTo: {to}\n"
        f"Subject: Undelivered Mail Returned to Sender\nAuto-Submitted: auto-replied\nMIME-Version: 1.0\n"
        f'Content-Type: multipart/report; report-type={kind};\n boundary="the-next-part"\n\n'
        f"--the-next-part\nContent-Type: text/plain; charset=us-ascii\n\n{words}\n"
        f"--the-next-part\nContent-Type: message/{kind}\n\n{machine}\n"
        f"--the-next-part\nContent-Type: {returned_kind}\n\n"
    )
    return (head.encode() + returned + b"\n--the-next-part--\n").replace(b"\n", b"\r\n")
