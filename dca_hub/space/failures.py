"""What a visitor is told when something fails."""

import logging

from dca_hub.errors import DcaHubError, Fix

FULL = "Too many visitors are waiting here just now: try again in a minute."
log = logging.getLogger("dca_hub.space")

# The controls of the page that stand for an argument of the library; a visitor has no other.
_CONTROLS = {
    "context": "choose fewer pages",
    "quantization": "choose other weights on the Model tab",
    "device": "choose another device on the Model tab",
}


def _control(fix: Fix) -> str | None:
    return _CONTROLS.get(fix.argument)


def sentence(error: Exception) -> str:
    """A DcaHubError's own words, and one fixed sentence for everything else, which is logged: nobody outside sees a
    traceback or a path of this machine."""
    if isinstance(error, DcaHubError):
        return error.told(_control)
    log.error("a request failed", exc_info=error)
    return "That failed for a reason of this program's own; it is in the program's log."
