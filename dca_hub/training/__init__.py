"""Fine-tuning of DCA models on long dialogues."""
