"""Names of hosts, as browsers ask for them."""


def ascii_host(host: str) -> str:
    """Return a host's name in ASCII: by UTS 46 as browsers do it, so that ß stays apart from ss.

    What IDNA 2008 knows no more, as signs and pictures, goes by IDNA 2003, as in browsers.

    Raises:
        ValueError: It is no name of a host.
    """
    if not host.isascii():
        import idna  # noqa: PLC0415 - large tables, which most links have no need of

        try:
            return idna.encode(host, uts46=True).decode()
        except idna.IDNAError:
            pass
    return host.encode("idna").decode()
