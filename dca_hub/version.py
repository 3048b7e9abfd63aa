"""The version, in a module of its own so that whoever names it does not import the whole public API."""

VERSION = "0.1.0"
