"""What a file is written with and filled in by: its JSON Schema for editors, the function that a
command adds, and what the file leaves to Wakeful. Called by ``config_file`` and ``deployments``.
"""
