"""What goes wrong between here and the Hub, each in one sentence that names the fix and holds no token."""

import contextlib
import re
from collections.abc import Iterator

from huggingface_hub import errors, get_token

from dca_hub.errors import DcaHubError, Fix

_QUOTA = re.compile(r"quota|storage|limit reached|exceed|too large|payment|upgrade", re.IGNORECASE)
_AGAIN = "run the same command again, and what has arrived is not sent twice"


class Concurrent(DcaHubError):
    """Somebody else pushed in the meantime."""


@contextlib.contextmanager
def in_words(repository: str) -> Iterator[None]:
    """Turns what the Hub client raises into a DcaHubError about that repository; defects pass through."""
    try:
        yield
    except (DcaHubError, KeyboardInterrupt):
        raise
    except Exception as error:
        words = explain(error, repository)
        if words is None:
            raise
        raise words from None


def explain(error: BaseException, repository: str) -> DcaHubError | None:
    """The failure in words, or None for one that is not the Hub's."""
    error = _cause(error)
    if isinstance(error, errors.LocalTokenNotFoundError):
        return no_token()
    if isinstance(error, errors.HFValidationError):
        return bad_name(repository)
    if isinstance(error, errors.HfHubHTTPError):
        return _answered(error, repository)
    if is_network(error) or isinstance(error, errors.OfflineModeIsEnabled):
        reason = (
            "offline mode is on (HF_HUB_OFFLINE)"
            if isinstance(error, errors.OfflineModeIsEnabled)
            else ("the connection broke or no answer came")
        )
        return DcaHubError(f"The Hub could not be reached, {reason}: {_AGAIN}; nothing half-done is visible there.")
    if isinstance(error, ValueError) and "LFS batch API" in str(error):
        return (
            _full(str(error)) if _QUOTA.search(str(error)) else DcaHubError(f"The Hub refused a file: {scrub(error)}")
        )
    if isinstance(error, getattr(errors, "FileDuplicationError", ())):
        return DcaHubError(
            f"The Hub could not copy the weights by itself ({scrub(error)})",
            Fix("use {}", "weights", "reference"),
            Fix("use {}", "weights", "copy"),
        )
    return None


def no_token() -> DcaHubError:
    return DcaHubError("There is no Hub token on this machine: log in with `hf auth login`, or set HF_TOKEN.")


def bad_name(repository: str) -> DcaHubError:
    return DcaHubError(
        f"{repository!r} is not a repository name: it must be owner/name, of letters, digits, hyphens, underscores and "
        "full stops, 96 characters at most."
    )


def status(error: BaseException) -> int | None:
    """The HTTP status that the Hub answered with, or None."""
    response = getattr(_cause(error), "response", None)
    return getattr(response, "status_code", None)


def is_network(error: BaseException) -> bool:
    """Whether the connection failed: by name, since the client's HTTP library differs between its versions."""
    names = {kind.__name__ for kind in type(error).__mro__}
    return bool(names & {"TransportError", "ConnectionError", "TimeoutError"}) and not isinstance(error, DcaHubError)


def is_passing(error: BaseException) -> bool:
    """Whether the same request may well succeed a moment later."""
    return is_network(error) or (status(error) or 0) in (408, 429, 500, 502, 503, 504)


def scrub(error: object) -> str:
    """The first line of a message, with whatever looks like a token taken out."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    text = lines[0].strip() if lines else type(error).__name__
    token = get_token()
    if token:
        text = text.replace(token, "***")
    return re.sub(r"\bhf_[A-Za-z0-9]{8,}", "***", text)


def _cause(error: BaseException) -> BaseException:
    """The Hub's own failure beneath what the client's upload threads wrap it in."""
    while type(error) is RuntimeError and error.__cause__ is not None:
        error = error.__cause__
    return error


def _answered(error: errors.HfHubHTTPError, repository: str) -> DcaHubError:
    code, said = status(error), _said(error)
    if isinstance(error, errors.GatedRepoError):
        return DcaHubError(
            f"{repository} is gated: accept its license on its Hub page, then log in with `hf auth login`."
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return DcaHubError(f"{repository} has no such revision: see its Hub page for branches and tags.")
    if code == 412:
        return Concurrent(
            f"Somebody else pushed to {repository} while this was uploaded, so nothing of yours is there: look at what "
            "came in, then run the same command again."
        )
    if code in (402, 413, 507) or (code == 403 and _QUOTA.search(said)):
        return _full(said)
    if code == 401 and (get_token() is None):
        return no_token()
    if code == 401 and not isinstance(error, errors.RepositoryNotFoundError):
        return DcaHubError("The Hub does not accept your token: log in again with `hf auth login`, or fix HF_TOKEN.")
    if code == 403:
        return DcaHubError(
            f"Your token may not write to {repository}: use a token with write access, and a repository under your own "
            "name or an organisation that you may write for."
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return DcaHubError(
            f"There is no {repository} on the Hub that you may see: check the name, or log in with `hf auth login`."
        )
    if code == 429:
        return DcaHubError(
            "The Hub has limited your rate of requests: wait a few minutes, then run the same command again."
        )
    if code is not None and code >= 500:
        return DcaHubError(f"The Hub returned {code} repeatedly: {_AGAIN}.")
    return DcaHubError(f"The Hub refused ({code}) {repository}: {said or scrub(error)}")


def _said(error: errors.HfHubHTTPError) -> str:
    held = getattr(error, "server_message", None) or error.response.headers.get("X-Error-Message") or ""
    if not held:
        with contextlib.suppress(Exception):
            held = str(error.response.json().get("error", ""))
    return scrub(held) if held else ""


def _full(said: str) -> DcaHubError:
    return DcaHubError(
        f"The Hub has no storage left for you ({said.rstrip('.') or 'quota'})",
        "free or buy storage",
        Fix("use {}, which needs none", "weights", "reference"),
    )
