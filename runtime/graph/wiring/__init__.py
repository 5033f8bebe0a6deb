"""Stages wired to each other by the names of their values: the edges, what is wrong with one, and
the states that the calls of a sequence pass on. Called by ``runtime.graph``; may import what that
may.
"""
