"""``make fuzz``: calls that no client should make, many thousands of them, made by a seed.

Each call is a right one (``calls``) of which something is made wrong (``mutations``, with the
values of ``values``), sent as bytes (``sending``) and judged by its answer alone (``judging``).
What the processes that serve went through is looked at beside (``watching``). `schemathesis` adds
calls that it makes of the OpenAPI document by itself (``documented``).
"""
