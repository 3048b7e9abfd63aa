"""The library's exception: a failure that the person who called can do something about."""


class DcaHubError(Exception):
    """A failure that the caller can fix.

    The message is one sentence that says what is wrong and names the fix; the command line and the browser show it
    as it is, without a traceback. Everything else that is raised is a defect of this library.
    """


def one_line(error: Exception) -> str:
    """A library's message, which may span several lines, as part of a sentence."""
    return " ".join(str(error).split())
