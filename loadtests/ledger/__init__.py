"""A checking client: every request has an id and an answer that can be told right from wrong, and comes to exactly one of four ends.

Answered right, refused with a reason, cancelled by the caller himself; anything else is lost. The client never sends twice.
"""
