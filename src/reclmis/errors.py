"""How errors are told."""


def one_line(error: BaseException) -> str:
    """An error's message in one line; its type's name where it has none."""
    return " ".join(str(error).split()) or type(error).__name__
