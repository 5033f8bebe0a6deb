"""What functions are made of on this machine: models pulled and checked, code read, digests of
both. Called by ``batching`` and above, and by the commands and the preflight of ``deployments``. Of
``runtime`` it imports ``onnx``, ``declaration`` and below.
"""
