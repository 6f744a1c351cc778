"""Errors that several parts raise, and how errors are told."""


class UnreadableImageError(ValueError):
    """A file that is missing, damaged, too large, or no image. The message names the path."""


class MissingPackageError(ImportError):
    """An optional package is not installed. The message says how to install it."""


def one_line(error: BaseException) -> str:
    """An error's message in one line; its type's name where it has none."""
    return " ".join(str(error).split()) or type(error).__name__
