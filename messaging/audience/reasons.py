"""Why a row is refused: short stable words, kept with the row and counted in the report."""

from enum import StrEnum


class Reason(StrEnum):
    """One reason per refused row: the first that applies, in this order."""

    TOO_MANY_CELLS = "too many cells"  # more cells with text than the header has columns
    QUOTE_NOT_CLOSED = "quote not closed"  # a cell begins with a quote that never ends
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
    PHONE_IMPOSSIBLE = "phone: impossible for its country"  # wrong length, or a range nobody was given
    NO_ADDRESS = "no address"  # neither an e-mail address nor a phone number
