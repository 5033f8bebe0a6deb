"""What a process says of its work to the tools that people run: counts for Prometheus.

Called by every folder that serves calls; imports nothing of theirs. The path of a call adds to
plain numbers here, and all that costs more happens at a scrape.
"""
