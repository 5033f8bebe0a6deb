"""What ``wakeful run`` is beside the engine: its record in the state folder, the copy of what it
writes, and the reload of edited code. Called by ``cli``. May import the floors below; no Ray.
"""
