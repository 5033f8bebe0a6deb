"""Between sockets and handlers, and all that is private to uvicorn. Each thing that is taken for
granted of it is an entry of ``assumptions``; ``contract`` decides what follows on the installed
release. Its protocol with HTTP read as RFC 9110 says (``protocol``, ``head_rules``), short calls
past it (``hot_connection``), large bodies past it and responses in one write (``direct_io``), files
past it (``file_sender``), and clients that read slowly or send no more (``peer``); the server
(``listening_server``), whose connections have a bound (``connection_limit``), and which ends
without losing a call (``draining_server``); and what stands before a handler where a request must
have come through HAProxy (``edge``). Used by ``runtime.http.asgi`` and by the servers; knows no
function.
"""
