"""Ray as Wakeful uses it: environment and state folder of a cluster, private names, processes,
ports, status, secrets. Called by every other folder of ``deployments``. May import the engine and
no other folder of ``deployments``.
"""
