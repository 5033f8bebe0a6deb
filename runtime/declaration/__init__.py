"""How a declaration is read: YAML with lines, the grammar of its values, every complaint at once, the reference pages.

What comes out of it stands one floor up the hall: ``runtime.spec`` and ``runtime.specfile``.
"""
