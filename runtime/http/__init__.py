"""The engine over HTTP: the ASGI applications of functions, their transports and the HTTP client.

Used by ``wakeful run`` and by the replicas, hosts and catalogue of ``deployments``.
May import every other folder of ``runtime``, Starlette and uvicorn; never Ray.
"""
