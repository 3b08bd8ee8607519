"""The one base class of every error that is the user's to mend."""

__all__ = ["DipoleError"]


class DipoleError(Exception):
    """An error for people: one line saying what is wrong, where, and what to do. The CLI prints it without
    traceback."""
