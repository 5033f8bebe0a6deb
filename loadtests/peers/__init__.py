"""Other servers with the same model on the same machine, in one run with Wakeful: ``python -m
loadtests.peers``. Each serves MiniLM and a function that computes nothing, written as its own
documentation writes them, from an environment of its own.
"""
