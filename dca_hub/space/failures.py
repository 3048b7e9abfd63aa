"""What a visitor is told when something fails."""

import logging

from dca_hub.errors import DcaHubError

FULL = "Too many visitors are waiting here just now: try again in a minute."
log = logging.getLogger("dca_hub.space")


def sentence(error: Exception) -> str:
    """A DcaHubError's own words, and one fixed sentence for everything else, which is logged: nobody outside sees a
    traceback or a path of this machine."""
    if isinstance(error, DcaHubError):
        return str(error)
    log.error("a request failed", exc_info=error)
    return "That failed for a reason of this program's own; it is in the program's log."
