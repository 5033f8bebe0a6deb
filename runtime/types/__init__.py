"""Types of values: annotations of stages, tensors, returned values, conditions of ``when``.

Called by the graph, the protocol, ONNX and execution. It imports ``runtime.errors`` only.
"""
