"""What a traffic needs: functions are measured here (``measure``), and calls run through the
policies on a machine of what was measured (``needs``), with nothing started.

Called by ``wakeful profile`` and ``wakeful plan``. May import ``simulation``, ``preflight``, the
engine and ``wakeful.testing``, which serves it; never Ray.
"""
