"""The instance that the engine's tests run on: small, with a column of every role and kind, and nobody's real data."""
