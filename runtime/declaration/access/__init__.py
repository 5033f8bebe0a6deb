"""API keys: what a key opens, the file of keys and how it is changed, and when keys are asked for.

    keys ─▶ changes ─▶ key_file ─▶ key_table   asked

Called by ``deployments``, whose HAProxy compares keys, and by ``http``. No clock is asked here:
``now`` comes in as an argument.
"""
