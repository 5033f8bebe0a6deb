"""What one call may cost: any body and path under its limits, the worst of them tried one by one.

    block    longest time that an event loop did nothing else, a JSON body's own parse apart: 20 ms
    memory   growth of a process at its peak: ``max_ongoing_bytes`` and 64 MB

`python -m loadtests.bounds`, against `wakeful run` and `wakeful up`. What is measured is measured
in each process that the call passes (``loops``).
"""
