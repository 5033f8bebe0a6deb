"""Answers that stream: the items of a call between the threads that compute them and the caller,
which rows of a generator wait for their next item, and which elements of a row are under way. Used
by the batcher above it, and by ``runtime.execution``, which takes the items.
"""
