"""What processes report to the placement controller and what people read: messages, metrics page,
decision log, crash reports, logs, sentences of ``wakeful status``. Called by ``serving``,
``placement``, ``rollout`` and ``cli``. May import ``ray_support``, ``preflight`` and the engine.
"""
