"""HAProxy's configuration: read from what Ray writes, decided, written from the templates here.
Called by ``haproxy_config`` and ``deployments.local``. Imports little: HAProxy's program starts at
each reload.
"""
