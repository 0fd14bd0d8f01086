"""Text that came from outside, made safe to print."""


def printable(text: str) -> str:
    """A text from a file or an option in one line, with no power over the terminal."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
