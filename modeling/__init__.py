"""The files that go to the Hub with a DCA model. Flat: each imports torch, transformers and its siblings only."""
