"""How processes of Ray start on this machine: its head, and workers and drivers that are forked off
one process that has imported what they need. Called by ``deployments.cluster``, and run by Ray as a
script. What runs in a fork imports other modules by their names.
"""
