"""Makes a declared graph concrete and checks it: stages resolved, edges wired, rows validated.
Called by ``execution``, which runs the graph, and by the commands that check, explain and deploy.
Of ``runtime`` it imports ``batching``, ``artifacts`` and below; it runs nothing.
"""
