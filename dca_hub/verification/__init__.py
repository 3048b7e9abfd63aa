"""Checks a package as a stranger would: its files, and what it does when it is loaded in a fresh process."""

from .findings import Check, Finding, Outcome
from .run import verify

__all__ = ["Check", "Finding", "Outcome", "verify"]
