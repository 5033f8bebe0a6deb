"""Runs ONNX models: sessions, execution providers, GPU memory, prepared forms of model files.
Called by ``artifacts``, ``graph``, ``execution`` and ``deployments``.
The only folder that imports ``onnxruntime``; of ``runtime`` it imports ``declaration`` and below.
"""
