"""The live table of ``wakeful top``: the events of servers are followed (``following``), kept as
one reading a server (``readings``), shown as rows and lines (``rows``, ``table``), by what keys
have chosen (``keyboard``), on a terminal (``screen``).

Called by ``deployments.cli.operations.top``. All but ``following`` and ``screen`` is pure.
"""
