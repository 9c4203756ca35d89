"""Text of other origin, such as names of files and classes, as a terminal may show it."""


def printable(text: object) -> str:
    r"""Return a text on one line, with escapes for control characters, line breaks and changes of direction.

    A name could otherwise clear the screen, overwrite a line or write one that looks like the command's own.

    >>> printable("cat\x1b[2J\u202egnp.exe")
    'cat\\x1b[2J\\u202egnp.exe'
    """
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in str(text))


def printable_lines(text: str) -> str:
    r"""Return a text whose lines are the command's own, with escapes for other control characters.

    >>> printable_lines("a\x07\nb")
    'a\\x07\nb'
    """
    return "\n".join(map(printable, text.split("\n")))
