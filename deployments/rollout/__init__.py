"""Deploys a declared file: what to deploy, in which steps, and its execution through the driver.
Called by ``cluster`` and ``cli``.
May import ``placement``, ``observability``, ``preflight``, ``ray_support`` and ``runtime``; no Ray.
"""
