"""Requests that are answered later: the queue on disk, and the thread of each worker that answers them."""
