"""Model files where they lie: on web servers, in object stores, in an MLflow registry. Called by
``artifacts`` and by ``wakeful models pull``; serving never fetches.

``objects`` is what a file elsewhere can be asked, ``web``, ``stores`` and ``mlflow`` ask it,
``download`` brings it here whatever is interrupted, ``pinned_files`` checks it and puts it in its
place.
"""
