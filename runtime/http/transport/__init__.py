"""Between sockets and handlers, and all that is private to uvicorn: its protocol with HTTP read as
RFC 9110 says (``protocol``), short calls past it (``hot_connection``), large bodies past it and
responses in one write (``direct_io``), and clients that read slowly or send no more
(``peer``), and the server that ends without losing a call (``draining_server``). Used by
``runtime.http.asgi`` and by the servers; knows no function.
"""
