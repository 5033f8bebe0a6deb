"""The stages of models by name (``model: hf:ORG/REPO@REVISION``), a module for each task, written
as a user would write them: copy one into your project to change what it does. `wakeful explain`
shows the graph that a function comes to, with the values of ``with``.
"""
