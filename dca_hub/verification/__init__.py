"""Checks a package as somebody else would meet it: its files, and how it behaves when loaded in a fresh process."""

from .checks import Check, Finding, Outcome
from .run import PRECISIONS, Precision, verify

__all__ = ["PRECISIONS", "Check", "Finding", "Outcome", "Precision", "verify"]
