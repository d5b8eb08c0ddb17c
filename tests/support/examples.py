"""Number of examples of a property whose examples are slow."""

from hypothesis import settings


def at_most(examples: int) -> int:
    """Return that number, or that of the Hypothesis profile if it is lower."""
    return min(examples, settings.default.max_examples) if settings.default else examples
