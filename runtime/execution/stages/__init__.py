"""The stages of a function, ready to run on rows: a Python callable, a generator, an ONNX model, a
call of another function. Used by ``runtime.execution``; may import what that may.

The promise of a stage: a row that fails gets an error, and its batch-mates are not affected. A
row-wise stage is called row by row, so that holds by itself. A stage that takes all rows at once,
and a model, run again on halves of a batch that failed (``runtime.batching.bisection``). So a stage
is given its own copy of lists and dicts, and arrays are read-only: what it changes is seen by no
other run, stage or row (``runtime.types.own_values``).
"""
