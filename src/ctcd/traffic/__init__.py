"""Judging a challenger by the requests that it answers."""
