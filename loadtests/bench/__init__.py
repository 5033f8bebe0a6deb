"""The throughput benchmark: Wakeful against the bare limit of the machine, both in the same run.

`wakeful bench`, `make bench` and `python -m loadtests.bench` call it; ``wake`` is the other one.
It imports the engine's declarations, what `up` reads, and the load tests' exchanges and stages.
"""
