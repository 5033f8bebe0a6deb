"""Faults under load: scenarios break a Wakeful while the ledger accounts for every request.

`make faults` and `python -m loadtests.faults` call it; tests/services runs some scenarios.
It imports the ledger, and what starts and declares servers in ``loadtests.bench``.
"""
