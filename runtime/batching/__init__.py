"""Rows of many callers, computed together: who waits with whom, how rows become tensors, which thread runs them."""
