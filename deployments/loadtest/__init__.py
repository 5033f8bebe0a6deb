"""Load tests with a verdict: what is sent (``calls``), when (``arrivals``), by what
(``generator``), what came of it (``results``) and how it is shown (``report``). Called by
``wakeful loadtest``.
"""
