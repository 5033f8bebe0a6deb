"""In front of the replicas: HAProxy and its configuration, middleware, replay, wake signal, drain.
Called by Serve's HAProxy manager, ``serving``, ``scaling`` and ``cluster``. May import
``ray_support`` and the engine; this file imports nothing: HAProxy's wrapper starts at each reload.
"""
