"""What is in the bodies of requests and responses: what a body is by its headers, and the rows in
it.

    rows, row_lines ─▶ forms, answers ─▶ offloading, content_encoding ─▶ chunks

Called by the transports, handlers and the client (``chunked_coding``) of ``runtime.http``; knows no
transport.
"""
