"""The one kind of failure that is meant for a person."""


class UserError(Exception):
    """A failure that the user can do something about.

    The message is one sentence that says what is wrong and names the fix; the command line and the browser show it
    as it is, without a traceback. Everything else that is raised is a defect.
    """


def one_line(error: Exception) -> str:
    """What a library says, which may be several lines, as a part of a sentence."""
    return " ".join(str(error).split())
