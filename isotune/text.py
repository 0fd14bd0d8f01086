"""Text for people: what came from outside made safe to print, counts with their noun."""


def printable(text: str) -> str:
    """A text from a file or an option in one line, with no power over the terminal."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def count(number: int, noun: str) -> str:
    """`1 GPU`, `8 GPUs`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
