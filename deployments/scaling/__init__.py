"""Policies: the tier of a function, the number of its replicas, hosts per machine, free capacity.
Called by ``serving``, ``placement``, Serve's controller and (``simulation``, ``planning``) ``cli``.
May import ``ingress``, ``observability``, ``preflight``, ``ray_support`` and the engine.
"""
