"""The errors that a user meets: one line each that says what is wrong and what to do."""


class ClassifierError(Exception):
    """Something failed on the way; a command that meets it ends with exit status 1."""

    exit_status = 1


class DiskFullError(ClassifierError):
    """A disk has, or would have, no space left for what is to be written."""


class InputError(ClassifierError):
    """The call or its input is wrong; a command that meets it ends with exit status 2."""

    exit_status = 2
