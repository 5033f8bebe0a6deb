"""A function of a file as plain data, for what shows it and has none of its code: what it takes and
answers as JSON Schema, its graph, and where its settings come from.

Called by the commands, by the server and by what ``up`` declares to a cluster; may import what
``runtime.graph`` may.
"""
