"""Load on a Wakeful that runs: Locust users whose answers are checked, and the benchmark against the bare limit."""
