"""Recorded traffic: which calls of a function are recorded, what of each, and the files that they
are kept in. Used by ``http``, which records, and by the processes of ``deployments``, which say
where to; imports ``protocol`` and below.

A call costs its function nothing but a look whether it is captured. Where it is, what is recorded
is decided before anything is kept (``recorder``), kept as references until the answer is sent, and
made into a line (``lines``, ``omission``) by a thread (``captures``), which appends it to the
function's file (``files``). The thread that falls behind loses calls, and counts them.
"""
