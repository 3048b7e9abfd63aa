"""Checks a package as somebody else would meet it: its files, how it behaves when loaded in a fresh process, and
whether a server that runs it gives what it must."""

from .checks import Check, Finding, Outcome
from .endpoint import EndpointCheck, verify_endpoint
from .run import PRECISIONS, Precision, verify

__all__ = ["PRECISIONS", "Check", "EndpointCheck", "Finding", "Outcome", "Precision", "verify", "verify_endpoint"]
