"""Errors with a one-line message for the user: what is wrong and what to do."""


class ClassifierError(Exception):
    """A failure at run time; commands end with exit status 1."""

    exit_status = 1


class DiskFullError(ClassifierError):
    """The disk is full, or too full for the files to be written."""


class InputError(ClassifierError):
    """Invalid arguments or input; commands end with exit status 2."""

    exit_status = 2
