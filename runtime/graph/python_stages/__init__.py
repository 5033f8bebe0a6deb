"""Python stages, read and not run: the signature of a function or class as its schema, and what a
class is constructed with. Called by ``runtime.graph``; may import what that may.
"""
