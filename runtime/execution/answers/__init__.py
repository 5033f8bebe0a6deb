"""What a function's rows are answered with, beyond JSON: tensors of the Open Inference Protocol
(``open_inference``), and files (``files``). Called by ``execution.function``; imports what
``execution`` imports, and nothing of it.
"""
