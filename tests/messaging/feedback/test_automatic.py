"""Automatic answers and challenges, in the words of many languages."""

import pytest

from messaging.feedback.bounces import read_bounces
from schemas.bounces import BounceClass


def mail(
    subject: str, text: str = "See you soon.", *fields: str, sender: str = "Joe <joe@corp.example>"
) -> bytes:
    head = [f"From: {sender}", "To: news@shop.example", f"Subject: {subject}", *fields]
    return "\n".join([*head, "Content-Type: text/plain; charset=utf-8", "", text, ""]).encode()


@pytest.mark.parametrize(
    "field",
    [
        "Auto-Submitted: auto-replied",
        "X-Autoreply: yes",
        "X-Autorespond: Re",
        "Precedence: auto_reply",
        "X-POST-MessageClass: 9; Autoresponder",
    ],
)
def test_a_field_of_automatic_answers_is_enough(field: str):
    assert read_bounces(mail("Re: Offer", "I will be back.", field)).bounce_class is BounceClass.AUTO_REPLY


@pytest.mark.parametrize(
    "subject",
    [
        "Automatic reply: Offer",
        "Out of Office: Offer",
        "Re: Out of office Re: Offer",
        "Abwesenheitsnotiz: Angebot",
        "Automatische Antwort: Angebot",
        "Réponse automatique : Offre",
        "Respuesta automática: Oferta",
        "Resposta automática: Oferta",
        "Risposta automatica: Offerta",
        "Automatisch antwoord: Aanbod",
        "Autosvar: Tilbud",
        "Automaattinen vastaus: Tarjous",
        "Odpowiedź automatyczna: Oferta",
        "Automatická odpověď: Nabídka",
        "Otomatik Yan\u0131t: Teklif",
        "Автоответ: Предложение",
        "自動応答: ご案内",
        "自动回复\uff1a报价",
        "자동 회신: 안내",
        "[Ticket #4711] Your request has been received",
    ],
)
def test_a_subject_of_automatic_answers_is_enough(subject: str):
    assert read_bounces(mail(subject)).bounce_class is BounceClass.AUTO_REPLY


@pytest.mark.parametrize(
    "text",
    [
        "I am out of the office until Monday and will answer then.",
        "Ich bin im Urlaub. Ihre E-Mail wird nicht weitergeleitet.",
        "Je suis absente du bureau jusqu'au 3 mai.",
        "Estaré fuera de la oficina hasta el lunes.",
        "Sono in ferie fino al 20 agosto.",
        "Я в отпуске до 12 марта.",
        "Jane Doe no longer works here. Please write to sales@corp.example.",
    ],
)
def test_words_of_automatic_answers_are_enough(text: str):
    [finding] = read_bounces(mail("Re: Offer", text))

    assert (finding.bounce_class, finding.recipient) == (BounceClass.AUTO_REPLY, "joe@corp.example")


@pytest.mark.parametrize(
    ("sender", "subject", "text"),
    [
        (
            "Boxbe <noreply@boxbe.example>",
            "Your message to joe@corp.example is being held",
            "Your message will be delivered once you are on joe's guest list. Complete the verification.",
        ),
        (
            "Joe <joe@corp.example>",
            "Re: Offer (verification)",
            "I'm protecting myself from receiving junk mail. Just this once, click the link so I get it.",
        ),
        (
            "mailguard@corp.example",
            "Please confirm your message",
            "Your message is being held because the address has not been verified. To release it, reply.",
        ),
        (
            "joe@corp.example",
            "Re: Offer",
            "To control spam, I now allow incoming messages only from senders I have approved beforehand.",
        ),
        ("joe@corp.example", "Demande d'authentification", "Cliquez sur le lien, une seule fois suffit."),
    ],
)
def test_a_challenge_is_recognised(sender: str, subject: str, text: str):
    assert read_bounces(mail(subject, text, sender=sender)).bounce_class is BounceClass.CHALLENGE


def test_asking_to_confirm_a_subscription_is_no_challenge():
    text = "To confirm your subscription to our newsletter, click on the link. Please verify you are human."

    assert (
        read_bounces(mail("Please confirm your subscription", text)).bounce_class is BounceClass.NOT_A_BOUNCE
    )


def test_a_bounce_that_calls_itself_automatic_is_a_bounce():
    text = "Your message could not be delivered.\n\n<joe@corp.example>: 550 5.1.1 User unknown"
    sent = mail(
        "Undelivered Mail Returned to Sender",
        text,
        "Auto-Submitted: auto-replied",
        sender="MAILER-DAEMON@mx.example",
    )

    assert read_bounces(sent).bounce_class is BounceClass.HARD
