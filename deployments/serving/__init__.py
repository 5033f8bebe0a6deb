"""What Ray Serve deploys: the replica of one function, the shared host, the routing between hosts;
and the calls that functions make of each other, over HTTP through this machine's HAProxy.

Used by ``placement``, ``builders`` and ``cluster``, which deploy them. May import ``scaling``,
``ingress``, ``observability``, ``ray_support``, the engine.
"""
