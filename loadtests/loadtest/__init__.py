"""``wakeful loadtest`` itself: a short run of it with verdicts (``make load``), and its generator
measured against servers that are known.
"""
