"""Models by name (``model: hf:ORG/REPO@COMMIT``): which files they are and where they lie, their
int8 form, and the graph of plain stages that a name and a task come to. Called by ``graph``, which
resolves declarations, and by the commands that add and pull models. It imports what
``artifacts`` may.
"""
