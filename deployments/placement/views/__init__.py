"""What is shown of functions and machines: to ``wakeful status``, and to the console. Called by the
catalogue; may import what ``deployments.placement`` may.
"""
