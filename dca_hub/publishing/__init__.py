"""The way to the Hub: packages and Spaces become repositories, whole revisions at a time."""
