"""What a process says of its work to the tools that people run: counts for Prometheus, the access
log, traces.

Called by every folder that serves calls; imports nothing of theirs. The path of a call adds to
plain numbers and keeps moments; all that costs more happens at a scrape, or in a thread.
"""
