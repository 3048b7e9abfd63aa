"""Task files for lm-evaluation-harness: what it lacks of the authors' experiments. Their data comes from the Hub or a
path; none of it is here."""
