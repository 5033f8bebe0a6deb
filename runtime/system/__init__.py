"""What the process and the machine give: files and locks, memory, secrets, log context, metrics.

Everything else may call it. It imports ``runtime.errors`` only.
"""
