"""Wakeful's engine: functions declared in YAML, served in one process or, by ``deployments``, on
Ray Serve. May import nothing but itself; the author of a stage imports from ``wakeful``.
"""
