"""What is said of a function whose stages fit together: what is wrong with it all the same, what
was probably not meant so, and what batches where. Called by ``runtime.graph.resolve`` and by the
commands that check and explain; may import what ``runtime.graph`` may.
"""
