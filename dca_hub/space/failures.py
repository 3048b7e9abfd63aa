"""What a visitor is told when something fails."""

import errno
import logging

import torch

from dca_hub.errors import DcaHubError, Fix

log = logging.getLogger("dca_hub.space")
_OURS = "Something went wrong on our side; details are in the server log."
_DISK_FULL = "The disk of this server is full: try again in a few minutes."
_MEMORY_FULL = "The memory of this server is full: choose fewer pages, or try again in a few minutes."

# The controls of the page that stand for an argument of the library; a visitor has no other.
_CONTROLS = {
    "context": "choose fewer pages",
    "quantization": "choose other weights on the Model tab",
    "device": "choose another device on the Model tab",
}


def _control(fix: Fix) -> str | None:
    return _CONTROLS.get(fix.argument)


def sentence(error: BaseException) -> str:
    """A DcaHubError's own words, and a fixed sentence for everything else, which is logged: nobody outside sees a
    traceback or a path of this machine."""
    if isinstance(error, DcaHubError):
        return error.told(_control)
    log.error("a request failed", exc_info=error)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return _DISK_FULL
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return _MEMORY_FULL
    return _OURS
