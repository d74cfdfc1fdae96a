"""Errors a user can act on: one line that names what was expected, what came, and what to do."""


class CortexflowError(Exception):
    """Something the user can mend. The command line prints its one line and no traceback."""


class DamagedFileError(CortexflowError):
    """A file of ours that is cut short, altered, or of another version."""


class CortexflowWarning(UserWarning):
    """Something that was decided for the user and that they should know of."""
