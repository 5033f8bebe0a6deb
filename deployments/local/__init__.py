"""What ``wakeful run`` is beside the engine: its record in the state folder, the copy of what it
writes, the reload of edited code, and several processes behind HAProxy (``--workers``). Called by
``cli``. May import the floors below; no Ray.
"""
