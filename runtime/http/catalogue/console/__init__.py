"""The console: a page for browsers, and what it shows, of every function and of the server.

Nothing here is on the way of a call. While no page is open, one look each ten seconds keeps the
history; while there are some, what they show is made once for all of them.

    shapes          what is sent, field by field
    changes         what is new between two looks at the functions
    history         what was counted, by steps of time, in bounded memory
    feed            looks, and gives what is new to the streams
    streams         one open page: what waits for it, and when it is given up
    details         one function: graph, signature, settings, calls
    page            the page and its files
    routes          HTTP
    cross_site      requests of other sites' pages, which change nothing here

Called by ``runtime.http.server`` and by the catalogue of a cluster, which say where all of it comes
from (``sources``); may import what ``runtime.http`` may.
"""
