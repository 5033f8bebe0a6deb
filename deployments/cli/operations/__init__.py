"""Commands of an operator: a cluster up and down, machines that join it, functions that are woken,
put to sleep or kept awake; and how such a command stays in the foreground.
"""
