"""Judging a challenger on live requests."""
