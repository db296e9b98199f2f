"""The runs: each run's append-only log, which is the truth that all views follow."""
