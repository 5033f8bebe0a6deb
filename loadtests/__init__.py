"""Load on a Wakeful that runs: Locust users, benchmarks against the bare limit, faults, bounds.

The Makefile, `wakeful bench` and tests/services call it; nothing of the product imports it.
It imports the declarations that `up` reads, and what finds the processes of a cluster.
"""
