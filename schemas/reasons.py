"""Why a row is refused, and what is worth a look in rows that are not: short stable words."""

from enum import StrEnum

REFUSED_COLUMNS = ("row_number", "reason")  # what the file of refused rows has before its own columns


class Reason(StrEnum):
    """One reason per refused row: the first that applies, in this order."""

    TOO_MANY_CELLS = "too many cells"  # more cells with text than the header has columns
    QUOTE_NOT_CLOSED = "quote not closed"  # a cell begins with a quote that never ends
    CELL_TOO_LONG = "cell too long"  # more than 32,767 characters
    NOT_IN_ENCODING = "bytes that are no text"  # the file's encoding does not know them
    EMAIL_NO_AT = "e-mail: no @"
    EMAIL_SEVERAL_AT = "e-mail: more than one @"
    EMAIL_TOO_LONG = "e-mail: too long"  # 254 bytes, 64 before the @ (RFC 5321)
    EMAIL_RESERVED_DOMAIN = "e-mail: reserved domain"  # such as .local or .test: no mail reaches it
    EMAIL_BAD_DOMAIN = "e-mail: bad domain"
    EMAIL_SYNTAX = "e-mail: syntax"
    # Phones count only in rows without an e-mail address: see `judging`.
    PHONE_NOT_A_NUMBER = "phone: not a number"
    PHONE_NO_COUNTRY = "phone: no country code; give --region"
    PHONE_UNKNOWN_COUNTRY = "phone: unknown country code"
    PHONE_TOO_SHORT = "phone: too short for its country"
    PHONE_TOO_LONG = "phone: too long for its country"
    PHONE_IMPOSSIBLE = "phone: impossible for its country"  # a range that nobody was given
    NO_ADDRESS = "no address"  # neither an e-mail address nor a phone number
    CONSENT_MISSING = "no consent"  # and the import requires it
    DUPLICATE = "duplicate in file"  # with --on-duplicate refuse only, as the two below
    KNOWN = "already a contact"
    CONFLICT = "conflict with another contact"  # the number identifies a contact who has no e-mail address


class Warn(StrEnum):
    """What is worth a look in a row that was taken; the name is its column in judged rows, in lower case."""

    EMAIL_MENDED = "e-mail: mended"  # mailto:, angle brackets, trailing dots or commas taken off
    EMAIL_SEVERAL = "e-mail: several, the first good one taken"
    EMAIL_ROLE = "e-mail: a role, not a person"  # info@, sales@
    EMAIL_DISPOSABLE = "e-mail: throw-away domain"
    EMAIL_TYPO = "e-mail: domain likely mistyped"
    EMAIL_MIXED_SCRIPTS = "e-mail: letters of several scripts"  # UTS 39: may pass for another address
    PHONE_DROPPED = "phone: cannot be used, kept as an attribute"  # beside a good e-mail address
    PHONE_WITHOUT_COUNTRY = "phone: no country code, kept as an attribute; give --region"
    PHONE_SEVERAL = "phone: several, the first good one taken"
    NAME_FORMULA = "name: looks like a formula"
    NAME_MIXED_SCRIPTS = "name: letters of several scripts"
    COUNTRY_UNKNOWN = "country: not known, kept as an attribute"
    TIME_ZONE_UNKNOWN = "time zone: not known, kept as an attribute"
    LANGUAGE_UNKNOWN = "language: not known, kept as an attribute"
    STATUS_UNKNOWN = "status: not known, taken as if there were none"
    CONSENT_UNKNOWN = "consent: neither yes, no nor what was agreed to, taken as if there were none"
