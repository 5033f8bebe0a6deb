"""Which functions the shared host serves and which have a deployment of their own; the catalogue.
Called by ``rollout``. May import ``serving``, ``scaling``, ``ingress``,
``observability``, ``ray_support`` and the engine.
"""
