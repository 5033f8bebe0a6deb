"""What every process of Ray imports before it is given work (``RAY_preload_python_modules``): what all of Serve's processes need anyway.

So a process that is started ahead has it done; the others do the same work in another order.
"""

import deployments.edge  # noqa: F401
