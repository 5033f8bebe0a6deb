"""TLS at the public port: which certificates HAProxy is given, and how it gets those that change.

Called by the commands that start HAProxy, ``check`` among them, and by HAProxy's program; imports
of ``ingress`` the socket for commands alone.
"""
