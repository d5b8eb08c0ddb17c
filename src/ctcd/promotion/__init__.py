"""The gate that decides whether a model may be promoted: evaluation, policy, decision."""
