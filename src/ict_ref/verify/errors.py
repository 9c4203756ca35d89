"""The base of the errors of what a command was given."""


class VerifyError(Exception):
    """A target, a command or a file cannot be used. The message is one line for the user."""
