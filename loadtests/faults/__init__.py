"""Faults that are made on purpose under load, with a ledger that shows what was lost: ``python -m loadtests.faults``."""
