"""What is taken for granted of uvicorn's inside, each tried on a connection in memory (``probe``)
by the installed release. What follows where it is otherwise is decided by ``transport.contract``,
and it alone calls this.
"""
