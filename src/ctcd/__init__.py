"""Continuous training and delivery of a model whose contracts decide what ships."""
