"""Where a model's graph computes across the rows of a run: followed operator by operator
(``mixing``), by rules for each (``rules``, ``layout_rules``). Called by ``onnx`` and by the check
of models in ``execution``; of ``onnx`` it imports ``model_graph`` and ``model_file``.
"""
