"""What several tests share: tiny models and checkpoints, servers on this machine, references to compare with."""
