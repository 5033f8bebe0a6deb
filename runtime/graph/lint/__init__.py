"""What is said of a function that is right: what was probably not meant so, and what batches where.
Called by ``runtime.graph.resolve`` and by the commands that check and explain; may import what
``runtime.graph`` may.
"""
