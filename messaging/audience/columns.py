"""Which column holds what, told by its header."""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from messaging.errors import InputError


def _plain(column: str) -> str:
    """Reduce a header to its letters and digits, without case and accents."""
    decomposed = unicodedata.normalize("NFKD", column.casefold())
    return "".join(character for character in decomposed if character.isalnum())


# How files in several languages call these columns, best first: "Mobile" wins over "Phone" when a file has
# both. Case, accents, spaces and signs do not matter; a word more is a word here and nothing else. Where a
# line tells codespell to look away, its words are not English.
_WORDS = {
    "email": (
        "email, email address, mail, mail address, correo, correo electronico, "
        "courriel, adresse mail, adresse email, email adresse, mail adresse, "  # codespell:ignore
        "epost, epostadress, posta elettronica, indirizzo email, "
        "endereco de email, email adres, sahkoposti, eposta, adres email, "  # codespell:ignore
        "электронная почта, почта, адрес электронной почты, 邮箱, 电子邮件, 邮件, メール, "
        "メールアドレス, 이메일, البريد الالكتروني, דואל"
    ),
    "phone": (
        "mobile, mobile phone, mobile number, mobile no, cell phone, cell, "
        "movil, telefono movil, celular, handy, handynummer, mobil, "
        "mobiltelefon, mobilnummer, portable, telephone portable, cellulare, "
        "telemovel, gsm, mobiel, whatsapp, whatsapp number, phone, phone number, "  # codespell:ignore
        "phone no, telephone, telephone number, tel, tel no, telefono, "
        "numero de telefono, telefon, telefonnummer, numero de telephone, "
        "telefone, telefoonnummer, telefoon, puhelin, мобильный, "
        "мобильный телефон, телефон, 手机, 手机号, 电话, 電話, 電話番号, 携帯電話, 휴대폰, 전화번호, "
        "الجوال, الهاتف, رقم الهاتف"
    ),
    "name": (
        "full name, contact name, customer name, display name, nombre completo, "
        "nombre y apellidos, nom complet, nom et prenom, nome completo, "  # codespell:ignore
        "nome e cognome, vollstandiger name, volledige naam, namn, naam, "  # codespell:ignore
        "полное имя, имя, фио, 姓名, 氏名, 名前, 이름, الاسم, الاسم الكامل"
    ),
    "first_name": (
        "first name, first, given name, forename, primer nombre, prenom, "
        "vorname, primeiro nome, voornaam, fornamn, etunimi"  # codespell:ignore
    ),
    "last_name": (
        "last name, last, surname, family name, apellido, apellidos, "
        "nom de famille, nachname, familienname, sobrenome, apelido, cognome, "
        "achternaam, efternamn, sukunimi, фамилия"
    ),
}
_PLAIN_WORDS = {role: [_plain(word) for word in words.split(",")] for role, words in _WORDS.items()}
# The whole name in most files; beside a column for one half of the name, the other half.
_NAME_OR_HALF = ("name", "nombre", "nom", "nome", "nimi")  # codespell:ignore

_DIGITS = re.compile(r"(\d\D*){6}")


@dataclass(frozen=True, slots=True)
class Columns:
    """What the columns of a file hold."""

    header: list[str]
    roles: dict[str, int]
    """Where email, phone, and name (or first_name and last_name) stand in the header."""

    @property
    def attributes(self) -> list[int]:
        """The other columns, and the halves of a name: a template may greet by first name."""
        whole = {self.roles.get(role) for role in ("email", "phone", "name")}
        return [place for place in range(len(self.header)) if place not in whole]


def find_columns(header: list[str], chosen: Mapping[str, str], file_name: str) -> Columns:
    """Tell what each column holds: what was chosen, then what the header's words say.

    Raises:
        InputError: `chosen` names what is not there, or there is no column for an address.
    """
    # In a file without a header the first row is a person's: exceptions are stored, addresses are not.
    listed = ", ".join("..." if _DIGITS.search(column) else column for column in header)
    found: dict[str, int] = {}
    for role, column in chosen.items():
        if role not in _WORDS:
            raise InputError(f"a column cannot be read as {role!r}: choose from {', '.join(_WORDS)}")
        if column.strip() not in header:
            raise InputError(f"{file_name} has no column {column!r} for {role}; its columns are: {listed}")
        place = header.index(column.strip())
        if place in found.values():
            raise InputError(f"column {column!r} of {file_name} is chosen twice: choose it for one thing")
        found[role] = place
    plain = {i: _plain(column) for i, column in enumerate(header)}
    for role in ("email", "phone"):
        _look(role, _PLAIN_WORDS[role], plain, found)
    if not {"name", "first_name", "last_name"} & found.keys():
        _find_name(plain, found)
    if not {"email", "phone"} & found.keys():
        hint = " Cells must be separated by commas." if len(header) == 1 else ""
        raise InputError(
            f"{file_name} has no column named like an e-mail address or a phone number; its columns are: "
            f"{listed}. Say which it is, as in --map email=COLUMN.{hint}"
        )
    return Columns(header, dict(sorted(found.items())))


def _find_name(plain: Mapping[int, str], found: dict[str, int]) -> None:
    """Prefer a whole name to two halves, and two halves to one."""
    if _look("name", _PLAIN_WORDS["name"], plain, found):
        return
    halves = [half for half in ("first_name", "last_name") if _look(half, _PLAIN_WORDS[half], plain, found)]
    if len(halves) == 1:
        other = "last_name" if halves == ["first_name"] else "first_name"
        _look(other, _NAME_OR_HALF, plain, found)
    elif _look("name", _NAME_OR_HALF, plain, found):
        for half in halves:
            del found[half]


def _look(role: str, words: Sequence[str], plain: Mapping[int, str], found: dict[str, int]) -> bool:
    """Give the role the free column with the best word, the leftmost of equals, unless it has one."""
    if role in found:
        return False
    free = [place for place in plain if place not in found.values() and plain[place] in words]
    if free:
        found[role] = min(free, key=lambda place: (words.index(plain[place]), place))
    return bool(free)
