"""What the processes of a cluster send each other: which functions are declared, what hosts and
replicas report to the placement controller each second, and what it orders them. Ray carries
reports and orders as the objects that they are, between processes of one version of Wakeful
(``deployments.ray_support.state_dir.WIRE``). Used by ``placement``, ``serving``, ``observability``
and ``rollout``. Imports ``runtime`` alone, no Ray.
"""
