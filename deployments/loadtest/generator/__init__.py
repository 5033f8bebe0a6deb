"""What sends: an open loop, in which each call is sent when its time has come, whatever the server
does, and its latency counts from then. On gevent and Locust's HTTP client, in processes of their
own. Called by the command and by Locust's users; may import ``calls``, ``arrivals``, ``results``.
"""
