"""What is wrong with a function that runs: batches that answer nothing, workers that do not come
back from a stage, coroutines that hold the event loop.

Decisions are in ``failure_detector`` and ``hangs``; ``watchdog`` is the thread that looks, and
``stacks`` says where a thread is. Called by ``runtime.batching.workers`` and ``batcher``; it
imports nothing of them.
"""
