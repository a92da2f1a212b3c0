"""Domains of one mailbox provider count together."""

import pytest

from messaging.campaign.provider_groups import provider_group


@pytest.mark.parametrize(
    ("address", "group"),
    [
        ("ada@gmail.com", "gmail.com"),
        ("Ada@GoogleMail.com", "gmail.com"),
        ("ada@hotmail.co.uk", "outlook.com"),
        ("ada@live.nl", "outlook.com"),
        ("ada@msn.com", "outlook.com"),
        ("ada@yahoo.es", "yahoo.com"),
        ("ada@aol.com", "yahoo.com"),
        ("ada@verizon.net", "yahoo.com"),
        ("ada@me.com", "icloud.com"),
        ("ada@web.de", "gmx.net"),
        ("ada@wanadoo.fr", "orange.fr"),
        ("ada@inwind.it", "libero.it"),
        ("ada@bk.ru", "mail.ru"),
        ("ada@ya.ru", "yandex.ru"),
        ("ada@126.com", "163.com"),
        ("ada@foxmail.com", "qq.com"),
        ("ada@yahoo.co.jp", "yahoo.co.jp"),  # another company
        ("ada@Example.org", "example.org"),
        ('"a@gmail.com"@example.org', "example.org"),
        ("googlemail.com", "gmail.com"),
        ("+ada@example.org", "example.org"),
        ("+447400000001", "whatsapp"),
        ("447400000001@s.whatsapp.net", "whatsapp"),
        ("120363000000000001@g.us", "whatsapp"),
        ("whatsapp", "whatsapp"),
    ],
)
def test_an_address_belongs_to_the_provider_of_its_mailbox(address: str, group: str):
    assert provider_group(address) == group
