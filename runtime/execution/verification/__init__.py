"""Checks a function before it is ready: batching does not change a model's answers
(``batching_check``), and the first answer can be given (``answer_check``). Called by the modules of
``execution``; imports what they import.
"""
