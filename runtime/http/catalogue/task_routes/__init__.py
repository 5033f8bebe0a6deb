"""The routes that clients of OpenAI, Jina and Cohere already call: ``/v1/models``,
``/v1/embeddings``, ``/v1/rerank`` and ``/v1/moderations``, answered by the functions that promise
the route's task. One module for each form, without I/O; ``handler`` reads, calls and answers.
"""
