"""Starts, joins, updates and ends a Ray cluster, from commands that do not import Ray themselves.
Called by ``cli``; ``driver`` and ``head`` are processes of their own.
May import all of ``deployments`` but ``cli``; Ray in those two processes only.
"""
