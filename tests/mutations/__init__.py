"""Faults that a careful engineer fears, as changes of the code: ``python -m tests.mutations`` makes
each in a copy of the tree and says which test sees it. What it takes lies beside it, in tables.
"""
