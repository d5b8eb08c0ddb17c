"""How many examples a property draws where each one is dear."""

from hypothesis import settings


def at_most(examples: int) -> int:
    """So many, or fewer where the chosen profile asks for fewer of everything."""
    return min(examples, settings.default.max_examples) if settings.default else examples
