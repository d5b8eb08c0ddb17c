"""From a snapshot to a model: split, preprocess, search, evaluate, log."""
