"""Asynchronous requests: the queue on disk, and the thread of each worker that processes it."""
